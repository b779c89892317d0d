// Prices of a catalogue's system: those of the network environments that were measured on such systems
// (topologies/network_environments.json, "systems"), so that `estimate`, `explain collective` and `validate` say the
// same. Rates of links are the cluster's own, which a job may change; everything else is the environment's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/collective/algorithm.h"
#include "sim/collective_price.h"
#include "sim/network.h"
#include "topologies/cluster.h"
#include "topologies/network_environment.h"

namespace foretrain::sim {

class SystemPricer {
 public:
  // A system without environments has no prices, nor one whose profile says what its own network does.
  explicit SystemPricer(const topologies::Cluster& cluster);

  // Nothing where nobody measured the kind on the side that the group is on. all_gather and reduce_scatter,
  // which send the same one way and the other, stand in for each other. What was
  // measured of all_reduce over two nodes is not taken for more. The extra latency of long routes is in it.
  std::optional<CollectivePrice> collective(collective::Kind kind, double bytes, const GroupPlacement& group) const;
  std::optional<CollectivePrice> message(double bytes, bool same_node) const;

 private:
  std::optional<CollectivePrice> price(const std::string& word, double bytes, const GroupPlacement& group) const;
  std::vector<topologies::NetworkEnvironment> node_, fabric_;  // the first that has constants for the kind counts
};

}  // namespace foretrain::sim
