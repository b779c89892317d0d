// The most that a set of vertices can send to another one.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"

namespace foretrain::topologies {

struct Arc {
  std::int64_t from, to;
  Bandwidth capacity;
};

// Boost.Graph's push-relabel, in whole bytes per second. Requires: no vertex in both sets.
Bandwidth max_flow(std::int64_t vertices, const std::vector<Arc>& arcs, const std::vector<std::int64_t>& sources,
                   const std::vector<std::int64_t>& sinks);

}  // namespace foretrain::topologies
