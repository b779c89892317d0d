// Every algorithm for one collective, in lock step at the links' own speeds: on a fabric of full bisection in closed
// form, and on the cluster's network as it is, as flows. What lies between the two is the network's doing.
#pragma once

#include <string>
#include <vector>

#include "sim/collective/algorithm.h"
#include "topologies/cluster.h"

namespace foretrain::sim::collective {

struct LockStep {
  std::string algorithm;
  int pieces = 1;                         // the power of two up to 256 with the least time in closed form
  double full_bisection = 0, routed = 0;  // seconds
  std::int64_t rounds = 0;
  std::int64_t transfers = 0, flows = 0;  // of the rounds that were simulated; flows stand for transfers
  std::string refusal;                    // why there are no figures
};

// On as many nodes of the cluster as the layout has, rank by rank in order. An algorithm whose rounds may have more
// than twenty million transfers is refused.
std::vector<LockStep> lock_step(const topologies::Cluster& cluster, Kind kind, Bytes bytes, const Layout& layout);

}  // namespace foretrain::sim::collective
