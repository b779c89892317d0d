// Meetings as flows, by class: what the engine and the folded walk need to know of the network.
//
// Folding. Meetings of one class of instances have the same rates at all times, and so have their flows. So one flow
// stands for all of them, and one link for all links of its class; on it the flow has the sum of the uses of all
// meetings of the class that cross the link. The equation of that link (sim/fair_share.h) is then the one that every
// link of the class has when nothing is folded, with the same whole numbers in it: the rates are the same to the bit.
#pragma once

#include <string>
#include <vector>

#include "sim/link_loads.h"
#include "sim/rank_classes.h"

namespace foretrain::sim {

struct FlowPlan {
  struct Background {
    std::vector<LinkUse> route;
    Rate cap = 0;
  };
  std::vector<Bandwidth> capacities;         // by class of links
  std::vector<std::vector<LinkUse>> routes;  // by class of instances and shape of traffic
  std::vector<Background> background;
  bool empty() const { return routes.empty(); }
};

// Also sets the classes' routes.
FlowPlan make_flow_plan(const std::vector<RoleModel>& models, const Meetings& meetings, const LinkLoads& loads,
                        const Partition& partition, std::vector<RankClass>& classes);

}  // namespace foretrain::sim
