// How long collectives and messages take. Closed forms: whatever else is on the wires is not seen.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "plan/graph.h"
#include "sim/compute_model.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

// Where a group's members sit: rank r on node r / devices_per_node. `per_node` is the most on one node.
struct GroupPlacement {
  int ranks = 1;
  int nodes = 1;
  int per_node = 1;
};
GroupPlacement place_group(const plan::Mesh& mesh, const plan::Group& group, plan::Rank member, int devices_per_node);

class NetworkModel {
 public:
  virtual ~NetworkModel() = default;
  virtual std::string_view name() const = 0;
  // Seconds from the last member's arrival to the end. `bytes`: the total buffer (Collective::elements).
  virtual double collective(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const = 0;
  virtual double message(Bytes bytes, bool same_node) const = 0;
  // By which factor communication among `members` ranks slows while `active` >= members ranks of the machine are busy.
  virtual double slowdown(Bytes bytes, std::int64_t members, std::int64_t active) const = 0;
};

const std::vector<ModelCard>& network_models();
std::unique_ptr<NetworkModel> make_network_model(const std::string& name, const topologies::Cluster& cluster);

std::unique_ptr<NetworkModel> make_alpha_beta(const topologies::Cluster& cluster);
std::unique_ptr<NetworkModel> make_measured_network(const topologies::Cluster& cluster);

}  // namespace foretrain::sim
