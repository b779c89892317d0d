// When the actions of a schedule run where only its order counts: actions of a kind last equally long, messages take no
// time. What the simulator says of the same schedule on a machine differs by messages and unequal stages.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/schedule.h"

namespace foretrain::plan {

// In units of time.
struct Durations {
  std::int64_t forward = 1, backward = 2, backward_input = 1, backward_weight = 1;
  std::int64_t of(ActionKind kind) const;
};

struct ScheduleTimes {
  std::vector<std::vector<std::int64_t>> start;  // as the schedule's rows
  std::vector<std::int64_t> waits;               // of each rank between its first action and its last
  std::int64_t makespan = 0;                     // the end of the last action
};

// Each action starts as soon as its row and its input allow. `ways`: as in check(). REQUIRES: a checked schedule.
ScheduleTimes times(const Schedule& s, const Durations& durations = {}, int ways = 1);

}  // namespace foretrain::plan
