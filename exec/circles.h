// Which ranks of a plan need a communicator with each other, for libraries that tell operations apart by their order
// alone. A circle's operations come, at each member, from one of its streams: its communicator adds no order to the
// plan's, so that it waits for nothing that the plan does not wait for.
//  - Collectives: a circle for each group and stream.
//  - Messages: a circle for all streams that they join, one stream of each rank.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "plan/graph.h"

namespace foretrain::exec {

struct Circles {
  std::vector<std::vector<plan::Rank>> members;     // of each circle, in group order; messages': ascending
  std::vector<std::map<std::int32_t, int>> of_tag;  // by rank: the circle of its operations with this tag
};

// The same on every rank. Throws InputError where messages join two streams of one rank: such a plan needs a library
// that matches by key. Of a valid graph the order on two streams is the same; within a batch it is for the caller to
// sort.
Circles circles_of(const plan::PlanGraph& graph);

}  // namespace foretrain::exec
