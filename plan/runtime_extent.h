// Ops whose first extent is known only at run time, at another value of it.
#pragma once

#include <cstdint>

#include "plan/graph.h"

namespace foretrain::plan {

// The op with `value` instead of its extent's maximum; of a counted all_to_all the rows of one member. Ops without such
// an extent, and kinds that have none, stay as they are.
Op at_extent(const Op& op, std::int64_t value);

// What the busiest rank of the extent's group is expected to have: mean + stddev · (expected largest of as many
// standard normals), at most the maximum. All ranks of the group wait for it.
std::int64_t busiest(const Mesh& mesh, const std::vector<Group>& groups, const RuntimeExtent& extent);

}  // namespace foretrain::plan
