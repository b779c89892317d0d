// The graph of a node from its few numbers.
#pragma once

#include <string>

#include "topologies/fabric.h"

namespace foretrain::topologies {

// All latency of a hop stands on its way out of the device ("up"), none on the way in, so that a route through a switch
// takes exactly the latency given. Requires: a shape that read_fabric accepts.
NodeGraph make_node_graph(const NodeShape& shape);

std::string describe(const NodeShape& shape);  // "8 on NVSwitch, 8 adapters"

}  // namespace foretrain::topologies
