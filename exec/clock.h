// The one clock of a run: steady, shared by all ranks, in picoseconds since an epoch shortly before the program began;
// of several processes since process 0's (Processes agree on it), so that 106 days of 64 bits count from there.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/units.h"

namespace foretrain::exec {

// Of this host's steady clock.
inline std::int64_t steady_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

namespace clock_detail {
inline constexpr std::int64_t kBefore = 1'000'000'000;  // so that no time of a run is negative
inline std::atomic<std::int64_t> epoch{steady_nanoseconds() - kBefore};
}  // namespace clock_detail

// In nanoseconds of this host's steady clock.
inline std::int64_t clock_epoch() {
  return clock_detail::epoch.load(std::memory_order_relaxed);
}
inline void set_clock_epoch(std::int64_t nanoseconds) {
  clock_detail::epoch.store(nanoseconds, std::memory_order_relaxed);
}

inline Time now() {
  return {(steady_nanoseconds() - clock_epoch()) * 1000};
}

}  // namespace foretrain::exec
