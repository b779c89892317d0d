// What an algorithm takes on a routed network: the transfers of a round are flows that start together and share links
// max-min (sim/flow_network.h); the next round starts when the last has arrived.
//
//   t = sum over rounds of  the end of the round's last flow,  each a whole number of picoseconds
//
// A flow has the latency and the links of its route. A transfer to or from a node's switch takes the way of a message
// to a neighbour up to the switch, or from it, and that message's whole latency. With full bisection, ports of a class
// alike, and a port's transfers of a round equally long, this is the closed form (Algorithm::seconds), rounded up once
// a round: a port's k flows end together after k chunks. Oversubscription, hashed paths, shared adapters, slow links
// show.
//
// Folded two ways, each with a switch to turn it off and neither with an effect on the result:
//   over ranks   transfers that take the same time are one flow (sim/collective/transfer_classes.h)
//   over rounds  a round with the transfers of an earlier one takes as long (Algorithm::same_round)
// Known wrong: libraries do not wait for each other between rounds, and hand on pieces before the whole has come.
#pragma once

#include <string>
#include <vector>

#include "base/units.h"
#include "sim/collective/algorithm.h"
#include "topologies/network.h"

namespace foretrain::sim::collective {

struct LinkSpeed {
  topologies::LinkId link = 0;
  double factor = 1;  // of its capacity; more than 0
};

struct FlowOptions {
  double efficiency = 1;  // of every link
  std::vector<LinkSpeed> speeds;
  bool fold_ranks = true, fold_rounds = true;
};

struct FlowRounds {
  Time time;
  std::int64_t rounds = 0;      // of the algorithm
  std::int64_t simulated = 0;   // rounds
  std::int64_t transfers = 0;   // of those that were simulated
  std::int64_t flows = 0;       // that stood for them
  std::int64_t most_flows = 0;  // in one round
};

// Why the network cannot do it, "" where it can: a switch that takes part, where a node's ranks do not all hang on one.
std::string flow_refusal(const Algorithm& algorithm, const Layout& layout, const topologies::Network& network,
                         int devices_per_node);

// Rank r of the layout is device `node devices_per_node + place on the node` of the network.
// Throws InputError where the network has no route, InfeasibleError beyond 106 days.
// Requires: refusal() and flow_refusal() were "", and a device for every rank.
FlowRounds flow_rounds(const Algorithm& algorithm, const Request& request, Bytes bytes,
                       const topologies::Network& network, int devices_per_node, const FlowOptions& options = {});

}  // namespace foretrain::sim::collective
