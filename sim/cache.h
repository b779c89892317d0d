// What of an op's operands a CPU core still has in its caches.
#pragma once

#include <vector>

#include "plan/graph.h"

namespace foretrain::sim {

// By block and op of the role: the part (0 to 1) of the bytes an op touches that were touched less than `capacity`
// bytes of traffic ago, by whatever op; mean over the op's places in a step of a long run. An operand larger than the
// capacity has evicted its own beginning. Rank: the role's first. Requires: a placed graph.
std::vector<std::vector<double>> cached_parts(const plan::PlanGraph& graph, int role, Bytes capacity);

}  // namespace foretrain::sim
