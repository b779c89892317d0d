// What replicas of servers hold when a run of several processes has failed, as its survivors agree on it.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "exec/processes.h"

namespace foretrain::exec {

struct LastState {
  int steps_done = -1;    // -1: some replica is lost, or they have not come to rest in time
  bool is_first = false;  // this process, of those that are left
};

// All that are left together, by their main threads, when no replica can make another update but from what it has
// already. `holders`: processes that replicas live in. `made`: how many steps' updates all replicas here have made;
// nothing while they may make another. Where they are alike they hold the same in the end, and are asked again until
// all say so; else each is asked once, and the fewest count.
LastState agree_on_last_state(Processes& processes, const std::vector<int>& holders, bool are_alike,
                              const std::function<std::optional<int>()>& made);

}  // namespace foretrain::exec
