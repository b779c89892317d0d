// Which links the meetings of a job load, and with what: the static side of network model fair_share.
//
// Left out are links that can hold nothing back. Those between the switches of a network that is non-blocking; and
// those that all flows that can be under way at once do not fill, each at its cap:
//
//     sum over instances, over their streams (ops of one stream cannot overlap), of  max of use x cap  <=  capacity
//
// and of the largest such sum only what can be under way beside one of its terms, as the rank that takes part in both
// has them in order (sim/lane_order.h).
//
// What is left decides which meetings are flows at all: the others take their closed form's time, as they would alone.
//
// A meeting by itself is never slower than its closed form on the links of its nodes and on their adapters: what the
// closed form fills these with counts as full. Switches further away are taken as they are: an all_to_all through an
// oversubscribed leaf is slower than a closed form, which knows no leaves, says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/meetings.h"
#include "topologies/cluster.h"
#include "topologies/network.h"

namespace foretrain::sim {

// Bundles of more than 2^kMostScale x 50 TB/s (51 PB/s) count as such; a use in 2^-scale parts has 31 bits.
inline constexpr std::int32_t kMostScale = 10;

struct LinkLoads {
  struct Link {
    Rate capacity = 0;  // of everything, degraded where its node is
    std::int32_t link_class = 0;
    std::int32_t scale = 0;  // uses and capacity are counted in 2^scale: more than 50 TB/s cannot be counted
    bool is_between_switches = false;
  };
  // Of one instance and one shape of its traffic on one link, in 1/kWholeUse of the flow's rate.
  struct Load {
    std::int32_t instance = 0, shape = 0, link = 0;
    std::int64_t use = 0;
  };
  // Traffic of others, without an end.
  struct Background {
    Rate cap = 0;
    std::vector<Load> loads;  // instance: which of them
  };
  std::vector<Link> links;
  std::vector<TrafficShape> shapes;
  std::vector<Load> loads;  // by instance, shape, link
  std::vector<Background> background;
  std::vector<std::string> link_classes;
};

// The longest period at which job and network repeat, so that find_link_loads sees as few ranks as it may.
Orbits find_orbits(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                   const topologies::Cluster& cluster, const topologies::Network& network);

// Rank r is device r. Throws InputError for a pair without a route.
LinkLoads find_link_loads(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const Meetings& meetings,
                          const topologies::Cluster& cluster, const topologies::Network& network);

}  // namespace foretrain::sim
