// How long collectives and messages take. Closed forms: whatever else is on the wires is not seen.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plan/graph.h"
#include "sim/collective/algorithm.h"
#include "sim/compute_model.h"
#include "sim/extra_latency.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

// Where a group's members sit: rank r on node r / devices_per_node. Nodes that share their switches count as one
// (topologies::devices_per_unit).
struct GroupPlacement {
  int ranks = 1;
  int nodes = 1;
  int per_node = 1;         // the most on one node
  int fewest = per_node;    // on one node: that many adapters carry what passes through it
  ExtraLatency extra = {};  // beyond one switch between nodes; who places the group on a routed network sets it
};
GroupPlacement place_group(const plan::Mesh& mesh, const plan::Group& group, plan::Rank member, int devices_per_node);
// Of all groups that the ranks are in, each rank in one, the one over most nodes, then with fewest on one of them:
// groups of 5 neighbours on nodes of 8 lie in a node or over two. Requires: `first_rank(ranks)` is in such a group.
GroupPlacement widest_group(const plan::Mesh& mesh, const plan::Group& group, const plan::RankSet& ranks,
                            int devices_per_node);

// One way to do a collective: what the library's table says of it, what the model makes of it.
struct CollectiveCandidate {
  std::string algorithm, protocol;  // protocol "": a closed form of sim/collective, which no library here chooses
  double latency = 0, algbw = 0;    // s, bytes/s of the total buffer; of a closed form: of nothing, of this size
  double table_seconds = 0;         // by NCCL's table, which chooses; 0 for a closed form
  double seconds = 0;               // as forecast
  std::string disabled;             // why it is not considered; its figures are then 0
  bool chosen = false;
};

// "all_reduce=ring" or "all_reduce=ring:simple": do it so, whatever the library would do.
struct CollectiveOverride {
  collective::Kind kind{};
  std::string algorithm, protocol;  // protocol "": the one with the least time
};
// A list with commas between. Throws InputError that names the word, the nearest and those allowed.
std::vector<CollectiveOverride> parse_collective_overrides(const std::string& text);

// For models that list candidates. Appends the closed forms of sim/collective that `out` does not name yet, on
// `fabric`.
void closed_form_candidates(collective::Kind kind, double bytes, const GroupPlacement& group,
                            const collective::Fabric& fabric, bool switch_reduces,
                            std::vector<CollectiveCandidate>& out);
// Makes the override the chosen one. Throws InputError, with those that apply, when it does not apply.
void take_override(const CollectiveOverride& wanted, const GroupPlacement& group,
                   std::vector<CollectiveCandidate>& all);

// What a collective or a message puts on the wires while it lasts, at the bandwidth of its largest messages.
struct Traffic {
  double latency = 0;      // s, of nothing
  double node_load = 0;    // s for which it alone fills each member's link in the node (Cluster::intra)
  double fabric_load = 0;  // s, each member's share of the adapters (Cluster::inter); 0: nothing leaves the node
};

class NetworkModel {
 public:
  virtual ~NetworkModel() = default;
  virtual std::string_view name() const = 0;
  // Seconds from the last member's arrival to the end. `bytes`: the total buffer (Collective::elements).
  virtual double collective(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const = 0;
  // Every way to do it; the chosen one is what collective() takes. Empty where the model knows of no algorithms.
  // Requires: at least two ranks. Throws InputError for an override that does not apply to the group.
  virtual std::vector<CollectiveCandidate> candidates(collective::Kind, Bytes, const GroupPlacement&) const {
    return {};
  }
  virtual double message(Bytes bytes, bool same_node) const = 0;
  // Nothing where the model does not know.  latency + node_load and latency + fabric_load are at most the seconds
  // above.
  virtual std::optional<Traffic> traffic(plan::CollectiveKind, Bytes, const GroupPlacement&) const { return {}; }
  virtual std::optional<Traffic> message_traffic(Bytes, bool /*same_node*/) const { return {}; }
  // By which factor communication among `members` ranks slows while `active` >= members ranks of the machine are busy.
  virtual double slowdown(Bytes bytes, std::int64_t members, std::int64_t active) const = 0;
};

inline constexpr std::string_view kFairShare = "fair_share";

const std::vector<ModelCard>& network_models();
// fair_share: the closed forms of alpha_beta, which say what each meeting takes alone; sim/flow_plan.h does the rest.
// `ranks`: of the job, which may outnumber this machine's cores.
std::unique_ptr<NetworkModel> make_network_model(const std::string& name, const topologies::Cluster& cluster,
                                                 std::vector<CollectiveOverride> overrides = {},
                                                 std::int64_t ranks = 1);

std::unique_ptr<NetworkModel> make_alpha_beta(const topologies::Cluster& cluster,
                                              std::vector<CollectiveOverride> overrides = {});
// `crowded`: with more ranks than cores.
std::unique_ptr<NetworkModel> make_measured_network(const topologies::Cluster& cluster, bool crowded);
// Ranks of one host as `inside` has them, hosts joined by a network (topologies::Cluster::is_hosts).
std::unique_ptr<NetworkModel> make_hosts_network(const topologies::Cluster& cluster,
                                                 std::unique_ptr<NetworkModel> inside);

}  // namespace foretrain::sim
