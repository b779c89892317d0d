// The graph as text for people, as JSON (and back), and as DOT.
#pragma once

#include <string>

#include "plan/graph.h"

namespace foretrain::plan {

std::string to_text(const PlanGraph& g);  // mesh, groups, roles; each block's ops once; segments and programs as lists
std::string to_json(const PlanGraph& g);  // "foretrain.graph/1", everything, placement included
PlanGraph graph_from_json(const std::string& text, const std::string& origin);
// One role's blocks as clusters, ops as nodes coloured by stream, `after` edges and stream order.
std::string to_dot(const PlanGraph& g, int role);
std::string describe(const PlanGraph& g,
                     OpId id);  // "stage 0, B0.last mb 3, layer 2, matmul 512x384x1536 (backward_weight)"

}  // namespace foretrain::plan
