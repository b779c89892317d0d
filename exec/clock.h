// The one clock of a run: steady, shared by all ranks, in picoseconds.
#pragma once

#include <chrono>

#include "base/units.h"

namespace foretrain::exec {

inline Time now() {
  const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<std::chrono::nanoseconds>(since_boot).count() * 1000};
}

}  // namespace foretrain::exec
