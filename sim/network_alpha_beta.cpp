// Collectives in closed form.  t = a + S/b + 2 kappa sqrt(a S / b)
//   S total bytes, n ranks, N nodes, p ranks per node, B bandwidth of the bus, w NIC of one rank, o extra latency
//   B     = node_busbw on one node, else min(node_busbw, fabric_fraction · p · w): each member brings its own NIC, the
//           other ranks of the node need theirs for the groups beside this one
//   ring  a = base + (s - s_N) hop_node + s_N hop_fabric + o;  all_reduce s = 2(n-1), s_N = 2(N-1), b = B n / 2(n-1);
//         all_gather, reduce_scatter s = n-1, s_N = N-1, b = B n / (n-1);  broadcast s = n-1, s_N = N-1, b = B
//   tree  (double binary, all_reduce)  a = base + 2 ((p-1) hop_node + floor(log2 N) hop_fabric) + o,  b = B/2; of two
//         nodes, where a tree is one exchange: b = min(B_fabric, node_busbw n / 2(n-1))
//   in-switch (all_reduce, more than 4 ranks on a node)  one node: a = hop + o, b = B n / 2(n-1) with the switch's
//   plateau; hierarchical: reduced in the switch, tree over the nodes:  a = hop + 2 floor(log2 N) hop_fabric + o, b as
//   the tree's all_to_all  each rank's NIC carries what leaves the node: S (n-p)/n, or on one node S (n-1)/n over
//   NVLink
// The algorithm is the one with the least a + S/b over NCCL's protocols, as NCCL chooses (sim/nccl_tuning.h); it is
// priced by a curve through two anchors, the latency of its fastest protocol and its measured plateau, with a
// pipelining term between them. A cluster without figures has one plain protocol: hops and bandwidths of its links,
// kappa = 0. Source: NVIDIA/nccl src/graph/tuning.cc; Thakur et al. 2005; Sanders et al. 2009 (two trees); errors in
// docs/models.md. Holds for: an idle fabric without oversubscription.   Known wrong: 64 KB to 64 MB over many nodes (30
// % and more).
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "sim/nccl_tuning.h"
#include "sim/network.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using plan::CollectiveKind;
using topologies::Figure;
using topologies::NetworkFigures;

// One way to do a collective. By protocol, what NCCL's table says: latency, and the bandwidth that the total buffer
// moves at. And the bandwidth of its largest messages as measured.
struct Algorithm {
  std::array<double, nccl::kProtocols> latency{}, table_algbw{};
  double algbw = 0;
  double by_table(double bytes) const {
    double best = INFINITY;
    for (std::size_t p = 0; p < nccl::kProtocols; ++p) {
      best = std::min(best, latency[p] + bytes / table_algbw[p]);
    }
    return best;
  }
  double seconds(double bytes, double kappa) const {
    const double least = *std::min_element(latency.begin(), latency.end());
    return least + bytes / algbw + 2 * kappa * std::sqrt(least * bytes / algbw);
  }
};

// Steps of a ring and how much of the bus bandwidth the buffer sees.
struct Ring {
  double steps = 0, fabric_steps = 0, share = 1;
};
Ring ring_of(CollectiveKind kind, double n, double nodes) {
  switch (kind) {
    case CollectiveKind::all_reduce: return {2 * (n - 1), 2 * (nodes - 1), n / (2 * (n - 1))};
    case CollectiveKind::reduce_scatter:
    case CollectiveKind::all_gather: return {n - 1, nodes - 1, n / (n - 1)};
    case CollectiveKind::broadcast: return {n - 1, nodes - 1, 1};
    case CollectiveKind::all_to_all: break;
  }
  return {n - 1, nodes - 1, n / (n - 1)};
}

double figure(const std::map<std::string, Figure>& table, std::string_view key, double fallback) {
  const auto found = table.find(std::string(key));
  return found == table.end() ? fallback : found->second.value;
}

// Broadcast and all_to_all have figures of their own only where somebody measured them.
std::string_view or_all_gather(const std::map<std::string, Figure>& table, std::string_view kind) {
  return table.count(std::string(kind)) > 0 ? kind : "all_gather";
}

class AlphaBeta final : public NetworkModel {
 public:
  explicit AlphaBeta(const topologies::Cluster& cluster)
      : cluster_(cluster), has_figures_(cluster.profile != nullptr && cluster.profile->has_network) {
    if (has_figures_) {
      figures_ = cluster.profile->network;
    }
  }

  std::string_view name() const override { return "alpha_beta"; }

  double collective(CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    if (group.ranks <= 1) {
      return 0;
    }
    const auto size = static_cast<double>(bytes.value);
    if (kind == CollectiveKind::all_to_all) {
      return all_to_all(size, group);
    }
    std::vector<Algorithm> algorithms{ring(kind, group)};
    if (kind == CollectiveKind::all_reduce) {
      algorithms.push_back(tree(group));
      if (group.per_node > 4 && in_switch() > 0) {
        algorithms.push_back(through_switch(group));
      }
    }
    const auto chosen =
        std::min_element(algorithms.begin(), algorithms.end(),
                         [&](const Algorithm& a, const Algorithm& b) { return a.by_table(size) < b.by_table(size); });
    const double kappa = has_figures_ ? (group.nodes > 1 ? figures_.kappa_fabric : figures_.kappa_node).value : 0;
    return chosen->seconds(size, kappa);
  }

  double message(Bytes bytes, bool same_node) const override {
    const topologies::Link& link = same_node ? cluster_.intra : cluster_.inter;
    const double fraction = !has_figures_ ? 1 : (same_node ? figures_.node_message : figures_.fabric_message).value;
    const double latency = !has_figures_
                               ? foretrain::seconds(link.latency)
                               : (same_node ? figures_.node_message_latency : figures_.fabric_message_latency).value;
    return latency + static_cast<double>(bytes.value) / (link.bandwidth.value * fraction);
  }

  double slowdown(Bytes, std::int64_t members, std::int64_t active) const override {
    const auto cores = static_cast<double>(cluster_.device_count());
    return std::max(1.0, static_cast<double>(active) / cores) / std::max(1.0, static_cast<double>(members) / cores);
  }

 private:
  double node_bandwidth(CollectiveKind kind) const {
    return has_figures_
               ? figure(figures_.node_busbw, or_all_gather(figures_.node_busbw, plan::name(kind)), link_bandwidth())
               : link_bandwidth();
  }
  double fabric_bandwidth(CollectiveKind kind, const GroupPlacement& g) const {
    const double fraction =
        has_figures_ ? figure(figures_.fabric_fraction, or_all_gather(figures_.fabric_fraction, plan::name(kind)), 1)
                     : 1;
    return fraction * g.per_node * cluster_.inter.bandwidth.value;
  }
  double link_bandwidth() const { return cluster_.intra.bandwidth.value; }
  double in_switch() const { return figure(figures_.node_busbw, "all_reduce_in_switch", 0); }

  double node_hop(const nccl::Latencies& l, std::size_t protocol) const {
    return has_figures_ ? l.node_hop[protocol] * 1e-6 : foretrain::seconds(cluster_.intra.latency);
  }
  double fabric_hop(const nccl::Latencies& l, std::size_t protocol) const {
    return has_figures_ ? l.fabric_hop[protocol] * 1e-6 : foretrain::seconds(cluster_.inter.latency);
  }
  double base(const nccl::Latencies& l, std::size_t protocol, const GroupPlacement& g) const {
    return has_figures_ ? l.base[protocol] * 1e-6 + (g.nodes > 1 ? figures_.fabric_extra : figures_.node_extra).value
                        : 0;
  }
  double share(const std::array<double, nccl::kProtocols>& shares, std::size_t protocol) const {
    return has_figures_ ? shares[protocol] : 1;
  }
  double limit(std::size_t protocol, const GroupPlacement& g, double bandwidth) const {
    if (protocol != nccl::kLl) {
      return bandwidth;
    }
    const char* key = g.nodes == 1 ? "one_node" : (g.nodes == 2 ? "two_nodes" : "more_nodes");
    return std::min(bandwidth, figure(figures_.ll_limit, key, bandwidth));
  }

  Algorithm ring(CollectiveKind kind, const GroupPlacement& g) const {
    const Ring r = ring_of(kind, g.ranks, g.nodes);
    double bus = node_bandwidth(kind);
    if (g.nodes > 1) {
      const double fabric = fabric_bandwidth(kind, g);
      bus = g.per_node > 1 ? std::min(bus, fabric) : fabric;
    }
    // With one rank per node NCCL takes the tree's fabric latency for its rings.
    const nccl::Latencies& hop = g.per_node == 1 ? nccl::kTree : nccl::kRing;
    Algorithm result;
    result.algbw = bus * r.share;
    for (std::size_t p = 0; p < nccl::kProtocols; ++p) {
      result.latency[p] = base(nccl::kRing, p, g) + (r.steps - r.fabric_steps) * node_hop(nccl::kRing, p) +
                          r.fabric_steps * fabric_hop(hop, p);
      result.table_algbw[p] = limit(p, g, bus * share(nccl::kRingShare, p)) * r.share;
    }
    return result;
  }

  double tree_algbw(const GroupPlacement& g, double node_bus) const {
    const double node = node_bus * g.ranks / (2.0 * (g.ranks - 1));
    const double fabric = fabric_bandwidth(CollectiveKind::all_reduce, g);
    if (g.nodes == 1) {
      return node_bus / 2;
    }
    const double over_fabric = g.nodes == 2 ? fabric : fabric / 2;
    return g.per_node > 1 ? std::min(node, over_fabric) : over_fabric;
  }

  Algorithm tree(const GroupPlacement& g) const {
    const auto& shares = g.nodes == 1 ? nccl::kTreeShareNode : nccl::kTreeShareFabric;
    Algorithm result;
    result.algbw = tree_algbw(g, node_bandwidth(CollectiveKind::all_reduce));
    for (std::size_t p = 0; p < nccl::kProtocols; ++p) {
      result.latency[p] = base(nccl::kTree, p, g) + 2 * ((g.per_node - 1) * node_hop(nccl::kTree, p) +
                                                         std::floor(std::log2(g.nodes)) * fabric_hop(nccl::kTree, p));
      result.table_algbw[p] = limit(p, g, result.algbw * share(shares, p));
    }
    return result;
  }

  Algorithm through_switch(const GroupPlacement& g) const {
    Algorithm result;
    result.latency.fill((nccl::kInSwitchHop + 2 * std::floor(std::log2(g.nodes)) * nccl::kInSwitchFabricHop) * 1e-6 +
                        (g.nodes > 1 ? figures_.fabric_extra : figures_.node_extra).value);
    result.algbw = g.nodes == 1 ? in_switch() * g.ranks / (2.0 * (g.ranks - 1)) : tree_algbw(g, in_switch());
    result.table_algbw.fill(result.algbw);
    return result;
  }

  double all_to_all(double bytes, const GroupPlacement& g) const {
    const CollectiveKind kind = CollectiveKind::all_to_all;
    const double n = g.ranks, p = g.per_node;
    const double inside = bytes * (p - 1) / n / node_bandwidth(kind);
    if (g.nodes == 1) {
      return message(Bytes{0}, true) + inside;
    }
    const double outside = bytes * (n - p) / n / (fabric_bandwidth(kind, g) / p);
    return message(Bytes{0}, false) + std::max(inside, outside);
  }

  const topologies::Cluster& cluster_;
  const bool has_figures_;
  NetworkFigures figures_;
};

}  // namespace

std::unique_ptr<NetworkModel> make_alpha_beta(const topologies::Cluster& cluster) {
  return std::make_unique<AlphaBeta>(cluster);
}

}  // namespace foretrain::sim
