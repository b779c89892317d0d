// What runs now and when it will end. Work has a speed, a fraction of kFullSpeed: always full; or a function of how
// many ranks are at work, where they share a machine; or what sim/shared_devices.h sets, where compute and
// communication share a device. What remains of it is an integer, so that no rounding accumulates. Used by engine.cpp
// only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "sim/event_queue.h"
#include "sim/role_model.h"

namespace foretrain::sim {

class Activities {
 public:
  // `speed_by_active`: fractions of kFullSpeed by ranks at work; empty: alone, whatever else runs. It must outlive the
  // activity. `ranks`: how many are at work on this one; `at_work`: each for which part of the time, of kFullSpeed. An
  // id may be used again once its activity has ended.
  void start(std::int32_t id, Time now, Time duration, const std::vector<std::int64_t>& speed_by_active,
             std::int64_t ranks, std::int64_t at_work = kFullSpeed);
  // It stands still until it is given a speed, in the same instant.
  void start_shared(std::int32_t id, Time now, Time duration);
  void set_speed(std::int32_t id, Time now, std::int64_t speed);  // requires: it runs; speed > 0
  // After all starts and ends of an instant: the speeds of ranks that share a machine until the next one.
  void set_speeds(Time now);

  bool empty();        // nothing runs
  Time next();         // end of what ends first; requires: not empty
  std::int32_t pop();  // its id; the lowest of those that end then

 private:
  // __int128: a long op in picoseconds times the speed's denominator exceeds 63 bits.
  __extension__ using Work = __int128;
  struct Running {
    Work remaining = 0;  // picoseconds x kFullSpeed
    Time since;
    std::int64_t speed = 0;
    std::int64_t ranks = 0, at_work = kFullSpeed;
    std::uint32_t generation = 0;
    const std::vector<std::int64_t>* speed_by_active = nullptr;
  };
  Running& running(std::int32_t id);
  void begin(Running& run, Time now, Time duration);
  void drop_void_events();

  EventQueue queue_;
  std::vector<Running> running_;       // by id
  std::vector<std::int32_t> sharing_;  // ids of those whose speed varies
  std::int64_t active_ranks_ = 0;      // times kFullSpeed
  bool has_changed_ = false;
};

}  // namespace foretrain::sim
