// When the actions of a schedule run where only its order counts, and the room for what is on its way. What the
// simulator says of the same schedule on a machine differs by what ranks and links hold each other up.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/schedule.h"

namespace foretrain::plan {

// In units of time.
struct Durations {
  std::int64_t forward = 1, backward = 2, backward_input = 1, backward_weight = 1;
  std::int64_t message = 0;  // of an output, to a stage on another rank
  // From an action's start until it cannot go on without its input: what it does before may be over by then.
  std::int64_t forward_lead = 0, backward_lead = 0;
  std::int64_t of(ActionKind kind) const;
};

struct ScheduleTimes {
  std::vector<std::vector<std::int64_t>> start;  // as the schedule's rows
  std::vector<std::int64_t> waits;               // of each rank between its first action and its last
  std::int64_t makespan = 0;                     // the end of the last action
};

// Of each action, as the schedule's rows: the earlier one of its row whose end leaves room for what comes from another
// rank. A forward's input goes into its slot; a whole backward's gradient into one of kRings rings, taken in turn;
// where backwards are split, a gradient has a place in the slot. -1: there is room from the start.
using Room = std::vector<std::vector<std::int32_t>>;
Room room_of(const Schedule& s);

// Each action starts as soon as its row and its input allow, no earlier than its lead before that. A message sets out
// once there is room for it. `ways`: as in check(). REQUIRES: a checked schedule.
ScheduleTimes times(const Schedule& s, const Durations& durations = {}, int ways = 1);
// With durations of each virtual stage; messages by the stage that they come from.
ScheduleTimes times(const Schedule& s, const std::vector<Durations>& by_stage, int ways = 1);
// The same, where the room is known.
ScheduleTimes times(const Schedule& s, const Room& room, const std::vector<Durations>& by_stage, int ways = 1);

}  // namespace foretrain::plan
