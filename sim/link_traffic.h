// How busy a step keeps each link of the network: for reports; the simulation does not ask it.
#pragma once

#include <string>
#include <vector>

#include "plan/graph.h"
#include "topologies/cluster.h"
#include "topologies/network.h"

namespace foretrain::sim {

// By link: the seconds of a step for which it would be full if all that crosses it came as fast as the link takes it;
// what fills a link only in part even alone (a protocol's overhead) counts as full, as in sim/traffic.h. The routes are
// those of network model fair_share, whatever model the forecast took. Empty where ranks are threads or share a device:
// there is no network to speak of.
// Rank r is device r. Throws what the models throw.
std::vector<double> link_busy_seconds(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                      const topologies::Network& network);

}  // namespace foretrain::sim
