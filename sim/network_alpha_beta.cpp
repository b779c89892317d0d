// Collectives in closed form: where a system's were measured by their constants (sim/system_price.h), else
//   t = a + S/b + 2 kappa sqrt(a S / b)
//   S total bytes, n ranks, N nodes, p ranks per node, q on the node with fewest, B bandwidth of the bus, w a rank's
//   NIC, o extra latency
//   B     = node_busbw on one node, else min(node_busbw, fabric_fraction · q · w): each member brings its own NIC, the
//           other ranks of the node need theirs for the groups beside this one
//   ring  a = base + (s - s_N) hop_node + s_N hop_fabric + o;  all_reduce s = 2(n-1), s_N = 2(N-1), b = B n / 2(n-1);
//         all_gather, reduce_scatter s = n-1, s_N = N-1, b = B n / (n-1);  broadcast s = n-1, s_N = N-1, b = B
//   PAT   (one rank per node; all_gather, reduce_scatter)  a = base + floor(log2 N) hop_fabric / 3.5 + 2.8 us n + o,
//         b = 0.75 B
//   tree  (double binary, all_reduce)  a = base + 2 ((p-1) hop_node + floor(log2 N) hop_fabric) + o,  b = B/2; of two
//         nodes, where a tree is one exchange: b = min(B_fabric, node_busbw n / 2(n-1))
//   in-switch  (all_reduce, more than 4 ranks on a node)  one node: a = hop + o, b = B n / 2(n-1) with the switch's
//         plateau; more: reduced in the switch, tree over the nodes: a = hop + 2 floor(log2 N) hop_fabric + o, b as the
//         tree's
//   all_to_all  each rank's NIC carries what leaves the node: S (n-q)/n, or on one node S (n-1)/n over NVLink
//   gather, distribute  the root's link and its NIC carry every other member's part s, one message's latency once:
//         max((p-1) s / link, (n-q) s / w), as messages fill them
// Where hops between nodes take more than the way through one switch (sim/extra_latency.h), that comes on top of t; the
// choice knows nothing of it, as NCCL's table does not.
// The algorithm is the one with the least a + S/b over NCCL's protocols, as NCCL chooses (topologies/nccl); it is
// priced by a curve through two anchors, the latency of its fastest protocol and its measured plateau, with a
// pipelining term between them. A cluster without figures has one plain protocol: hops and bandwidths of its links,
// kappa = 0. Source: NVIDIA/nccl src/graph/tuning.cc; Thakur et al. 2005; Sanders et al. 2009 (two trees); errors in
// docs/models.md. Holds for: an idle fabric without oversubscription.   Known wrong: 64 KB to 64 MB over many nodes
// (30 % and more).
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "sim/nccl.h"
#include "sim/network.h"
#include "sim/system_price.h"
#include "topologies/nccl_constants.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using collective::Kind;
using plan::CollectiveKind;
using topologies::kLl;
using topologies::kProtocols;
using topologies::kSimple;
using topologies::NcclConstants;
using topologies::newest_nccl;
using Hops = NcclConstants::Hops;
using PerProtocol = NcclConstants::PerProtocol;
using topologies::Figure;
using topologies::NetworkFigures;

// One way to do a collective. By protocol, what NCCL's table says: latency, and the bandwidth that the total buffer
// moves at. And the bandwidth of its largest messages as measured.
struct Algorithm {
  std::string_view name;
  PerProtocol latency{}, table_algbw{};
  double algbw = 0;
  // What it would be if only the node's links, only the adapters held it back.
  double node_algbw = INFINITY, fabric_algbw = INFINITY;
  bool only_simple = false;
  double extra = 0;  // of long routes, which no table knows
  double by_table(std::size_t protocol, double bytes) const {
    return latency[protocol] + bytes / table_algbw[protocol];
  }
  double by_table(double bytes) const {
    double best = INFINITY;
    for (std::size_t p = 0; p < kProtocols; ++p) {
      best = std::min(best, by_table(p, bytes));
    }
    return best;
  }
  // Held to one protocol: its own latency, and the plateau only where the protocol can reach it.
  double seconds(std::size_t protocol, double bytes, double kappa) const {
    const double rate = protocol == kSimple ? algbw : std::min(algbw, table_algbw[protocol]);
    return extra + latency[protocol] + bytes / rate + 2 * kappa * std::sqrt(latency[protocol] * bytes / rate);
  }
  double seconds(double bytes, double kappa) const {
    const double least = *std::min_element(latency.begin(), latency.end());
    return extra + least + bytes / algbw + 2 * kappa * std::sqrt(least * bytes / algbw);
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
    case CollectiveKind::all_to_all:
    case CollectiveKind::gather:
    case CollectiveKind::distribute: break;
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
  AlphaBeta(const topologies::Cluster& cluster, std::vector<CollectiveOverride> overrides)
      : cluster_(cluster),
        overrides_(std::move(overrides)),
        prices_(cluster),
        has_figures_(cluster.profile != nullptr && cluster.profile->has_network) {
    if (has_figures_) {
      figures_ = cluster.profile->network;
    }
  }

  std::string_view name() const override { return "alpha_beta"; }

  double collective(CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    if (group.ranks <= 1) {
      return 0;
    }
    if (override_of(collective::from_plan(kind)) != nullptr) {
      for (const CollectiveCandidate& c : candidates(collective::from_plan(kind), bytes, group)) {
        if (c.chosen) {
          return c.seconds;
        }
      }
    }
    const auto size = static_cast<double>(bytes.value);
    if (const auto measured = prices_.collective(collective::from_plan(kind), size, group)) {
      return measured->seconds;
    }
    if (kind == CollectiveKind::all_to_all) {
      return all_to_all(size, group);
    }
    if (plan::is_star(kind)) {
      const Star s = star(kind, size, group);
      return s.latency + std::max(s.node, s.fabric);
    }
    const std::vector<Algorithm> all = algorithms(kind, group);
    return chosen_of(all, size).seconds(size, kappa(group));
  }

  std::vector<CollectiveCandidate> candidates(Kind kind, Bytes bytes, const GroupPlacement& group) const override {
    CHECK(group.ranks >= 2, "{} ranks", group.ranks);
    const auto size = static_cast<double>(bytes.value);
    std::vector<CollectiveCandidate> result;
    library_candidates(kind, size, group, result);
    own_candidates(kind, size, group, result);
    if (const CollectiveOverride* wanted = override_of(kind)) {
      take_override(*wanted, group, result);
    }
    return result;
  }

  std::optional<Traffic> traffic(CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    CHECK(group.ranks >= 2, "{} ranks", group.ranks);
    const auto size = static_cast<double>(bytes.value);
    const bool leaves = group.nodes > 1, inside = group.per_node > 1;
    if (override_of(collective::from_plan(kind)) != nullptr) {
      for (const CollectiveCandidate& c : candidates(collective::from_plan(kind), bytes, group)) {
        if (c.chosen) {  // not known what fills which link when: taken as all the time
          const double load = std::max(0.0, c.seconds - c.latency);
          return Traffic{c.latency, inside ? load : 0, leaves ? load : 0};
        }
      }
    }
    const Traffic own = own_traffic(kind, size, group);
    const auto measured = prices_.collective(collective::from_plan(kind), size, group);
    return measured ? as_measured(own, *measured) : own;
  }
  std::optional<Traffic> message_traffic(Bytes bytes, bool same_node) const override {
    const double latency = message(Bytes{0}, same_node), load = message(bytes, same_node) - latency;
    return Traffic{latency, same_node ? load : 0, same_node ? 0 : load};
  }

  double message(Bytes bytes, bool same_node) const override {
    if (const auto measured = prices_.message(static_cast<double>(bytes.value), same_node)) {
      return measured->seconds;
    }
    const topologies::Link& link = same_node ? cluster_.intra : cluster_.inter;
    const double fraction = !has_figures_ ? 1 : (same_node ? figures_.node_message : figures_.fabric_message).value;
    const double latency = !has_figures_
                               ? foretrain::seconds(link.latency)
                               : (same_node ? figures_.node_message_latency : figures_.fabric_message_latency).value;
    return latency + static_cast<double>(bytes.value) / (link.bandwidth.value * fraction);
  }

  double slowdown(Bytes, std::int64_t members, std::int64_t active) const override {
    const auto cores = static_cast<double>(cluster_.machine_cores());
    return std::max(1.0, static_cast<double>(active) / cores) / std::max(1.0, static_cast<double>(members) / cores);
  }

 private:
  Traffic own_traffic(CollectiveKind kind, double size, const GroupPlacement& group) const {
    const bool leaves = group.nodes > 1;
    if (kind == CollectiveKind::all_to_all) {
      const double n = group.ranks, p = group.per_node, q = group.fewest;
      return {all_to_all(0, group), size * (p - 1) / n / node_bandwidth(kind),
              leaves ? size * (n - q) / n / (fabric_bandwidth(kind, group) / q) : 0};
    }
    if (plan::is_star(kind)) {
      const Star s = star(kind, size, group);
      return {s.latency, s.node, s.fabric};
    }
    const std::vector<Algorithm> all = algorithms(kind, group);
    const Algorithm& a = chosen_of(all, size);
    return {a.seconds(0, 0), group.per_node > 1 ? size / a.node_algbw : 0, leaves ? size / a.fabric_algbw : 0};
  }
  // The links fill in the same proportion, the tighter one at the measured bandwidth of the largest messages.
  static Traffic as_measured(const Traffic& own, const CollectivePrice& price) {
    const double load = std::min(price.transfer, price.seconds), most = std::max(own.node_load, own.fabric_load);
    const double scale = most > 0 ? load / most : 0;
    return {std::min(price.latency, price.seconds - load), own.node_load * scale, own.fabric_load * scale};
  }
  double kappa(const GroupPlacement& g) const {
    return has_figures_ ? (g.nodes > 1 ? figures_.kappa_fabric : figures_.kappa_node).value : 0;
  }
  std::vector<Algorithm> algorithms(CollectiveKind kind, const GroupPlacement& group) const {
    std::vector<Algorithm> all{ring(kind, group)};
    if (kind == CollectiveKind::all_reduce) {
      all.push_back(tree(group));
      if (group.per_node > 4 && in_switch() > 0) {
        all.push_back(through_switch(group));
      }
    } else if (has_figures_ && kind != CollectiveKind::broadcast && group.per_node == 1 && group.nodes > 1) {
      all.push_back(aggregated_trees(kind, group));
    }
    for (Algorithm& a : all) {
      a.extra = extra_seconds(collective::from_plan(kind), a.name, group.extra, group.nodes);
    }
    return all;
  }
  static const Algorithm& chosen_of(const std::vector<Algorithm>& all, double size) {
    return *std::min_element(all.begin(), all.end(), [size](const Algorithm& a, const Algorithm& b) {
      return a.by_table(size) < b.by_table(size);
    });
  }

  const CollectiveOverride* override_of(Kind kind) const {
    const auto found =
        std::find_if(overrides_.begin(), overrides_.end(), [kind](const auto& o) { return o.kind == kind; });
    return found == overrides_.end() ? nullptr : &*found;
  }
  void library_candidates(Kind kind, double size, const GroupPlacement& group,
                          std::vector<CollectiveCandidate>& out) const;
  void own_candidates(Kind kind, double size, const GroupPlacement& group, std::vector<CollectiveCandidate>& out) const;

  double node_bandwidth(CollectiveKind kind) const {
    return has_figures_
               ? figure(figures_.node_busbw, or_all_gather(figures_.node_busbw, plan::name(kind)), link_bandwidth())
               : link_bandwidth();
  }
  double fabric_bandwidth(CollectiveKind kind, const GroupPlacement& g) const {
    const double fraction =
        has_figures_ ? figure(figures_.fabric_fraction, or_all_gather(figures_.fabric_fraction, plan::name(kind)), 1)
                     : 1;
    return fraction * g.fewest * cluster_.inter.bandwidth.value;
  }
  double link_bandwidth() const { return cluster_.intra.bandwidth.value; }
  double in_switch() const { return figure(figures_.node_busbw, "all_reduce_in_switch", 0); }

  double node_hop(const Hops& l, std::size_t protocol) const {
    return has_figures_ ? l.nvlink[protocol] * 1e-6 : foretrain::seconds(cluster_.intra.latency);
  }
  double fabric_hop(const Hops& l, std::size_t protocol) const {
    return has_figures_ ? l.net[protocol] * 1e-6 : foretrain::seconds(cluster_.inter.latency);
  }
  double base(const Hops& l, std::size_t protocol, const GroupPlacement& g) const {
    return has_figures_ ? l.base[protocol] * 1e-6 + (g.nodes > 1 ? figures_.fabric_extra : figures_.node_extra).value
                        : 0;
  }
  double share(const PerProtocol& shares, std::size_t protocol) const { return has_figures_ ? shares[protocol] : 1; }
  double limit(std::size_t protocol, const GroupPlacement& g, double bandwidth) const {
    if (protocol != kLl) {
      return bandwidth;
    }
    const char* key = g.nodes == 1 ? "one_node" : (g.nodes == 2 ? "two_nodes" : "more_nodes");
    return std::min(bandwidth, figure(figures_.ll_limit, key, bandwidth));
  }

  Algorithm ring(CollectiveKind kind, const GroupPlacement& g) const {
    const Ring r = ring_of(kind, g.ranks, g.nodes);
    const double node = g.per_node > 1 ? node_bandwidth(kind) : INFINITY;
    const double fabric = g.nodes > 1 ? fabric_bandwidth(kind, g) : INFINITY;
    const double bus = std::min(node, fabric);
    // With one rank per node NCCL takes the tree's fabric latency for its rings.
    const Hops &rings = newest_nccl().hops.at("ring"), &hop = g.per_node == 1 ? newest_nccl().hops.at("tree") : rings;
    const PerProtocol ring_shares{newest_nccl().ring_ll, newest_nccl().ring_ll128, 1};
    Algorithm result;
    result.name = "ring";
    result.node_algbw = node * r.share;
    result.fabric_algbw = fabric * r.share;
    result.algbw = bus * r.share;
    for (std::size_t p = 0; p < kProtocols; ++p) {
      result.latency[p] =
          base(rings, p, g) + (r.steps - r.fabric_steps) * node_hop(rings, p) + r.fabric_steps * fabric_hop(hop, p);
      result.table_algbw[p] = limit(p, g, bus * share(ring_shares, p)) * r.share;
    }
    return result;
  }

  void set_tree_algbw(const GroupPlacement& g, double node_bus, Algorithm& a) const {
    if (g.nodes == 1) {
      a.node_algbw = node_bus / 2;
    } else {
      const double fabric = fabric_bandwidth(CollectiveKind::all_reduce, g);
      a.node_algbw = g.per_node > 1 ? node_bus * g.ranks / (2.0 * (g.ranks - 1)) : INFINITY;
      a.fabric_algbw = g.nodes == 2 ? fabric : fabric / 2;
    }
    a.algbw = std::min(a.node_algbw, a.fabric_algbw);
  }

  Algorithm tree(const GroupPlacement& g) const {
    const NcclConstants& c = newest_nccl();
    const Hops& trees = c.hops.at("tree");
    const double ll128 = g.nodes == 1 ? c.tree_ll128_node : c.tree_ll128_fabric;
    const PerProtocol shares{c.tree / c.tree_ll, c.tree * ll128, c.tree};
    Algorithm result;
    result.name = "tree";
    set_tree_algbw(g, node_bandwidth(CollectiveKind::all_reduce), result);
    for (std::size_t p = 0; p < kProtocols; ++p) {
      result.latency[p] = base(trees, p, g) + 2 * ((g.per_node - 1) * node_hop(trees, p) +
                                                   std::floor(std::log2(g.nodes)) * fabric_hop(trees, p));
      result.table_algbw[p] = limit(p, g, result.algbw * share(shares, p));
    }
    return result;
  }

  Algorithm through_switch(const GroupPlacement& g) const {
    const Hops& h = newest_nccl().hops.at("nvls_tree");
    Algorithm result;
    result.name = g.nodes == 1 ? "in_switch" : "in_switch_tree";
    result.only_simple = true;
    result.latency.fill((h.nvlink[kSimple] + 2 * std::floor(std::log2(g.nodes)) * h.net[kSimple]) * 1e-6 +
                        (g.nodes > 1 ? figures_.fabric_extra : figures_.node_extra).value);
    if (g.nodes == 1) {
      result.node_algbw = result.algbw = in_switch() * g.ranks / (2.0 * (g.ranks - 1));
    } else {
      set_tree_algbw(g, in_switch(), result);
    }
    result.table_algbw.fill(result.algbw);
    return result;
  }

  // NCCL's PAT, by default only with one rank per node.
  Algorithm aggregated_trees(CollectiveKind kind, const GroupPlacement& g) const {
    const Hops& h = newest_nccl().hops.at("pat");
    constexpr double kPerRank = 2.8, kHopShare = 3.5;  // tuning.cc
    Algorithm result;
    result.name = "bruck";
    result.only_simple = true;
    result.latency.fill(
        (h.base[kSimple] + std::floor(std::log2(g.nodes)) * h.net[kSimple] / kHopShare + kPerRank * g.ranks) * 1e-6 +
        figures_.fabric_extra.value);
    result.fabric_algbw = result.algbw = newest_nccl().pat * fabric_bandwidth(kind, g);
    result.table_algbw.fill(result.algbw);
    return result;
  }

  double all_to_all(double bytes, const GroupPlacement& g) const {
    const CollectiveKind kind = CollectiveKind::all_to_all;
    const double n = g.ranks, p = g.per_node, q = g.fewest;
    const double inside = bytes * (p - 1) / n / node_bandwidth(kind);
    if (g.nodes == 1) {
      return message(Bytes{0}, true) + inside;
    }
    const double outside = bytes * (n - q) / n / (fabric_bandwidth(kind, g) / q);
    return message(Bytes{0}, false) + g.extra.farthest + std::max(inside, outside);
  }

  struct Star {
    double latency = 0, node = 0, fabric = 0;  // seconds at the root
  };
  Star star(CollectiveKind kind, double bytes, const GroupPlacement& g) const {
    const double part = kind == CollectiveKind::gather ? bytes / (g.ranks - 1) : bytes;
    const auto seconds = [&](double sent, bool same_node) {
      return message(Bytes{std::llround(sent)}, same_node) - message(Bytes{0}, same_node);
    };
    return {message(Bytes{0}, g.nodes == 1) + g.extra.farthest, seconds((g.per_node - 1) * part, true),
            g.nodes > 1 ? seconds((g.ranks - g.fewest) * part, false) : 0};
  }

  const topologies::Cluster& cluster_;
  const std::vector<CollectiveOverride> overrides_;
  const SystemPricer prices_;
  const bool has_figures_;
  NetworkFigures figures_;
};

// What NCCL chooses from, priced protocol by protocol; and, as it stands in collective(), the chosen one as a whole, or
// the algorithm that is taken instead.
void AlphaBeta::library_candidates(Kind kind, double size, const GroupPlacement& group,
                                   std::vector<CollectiveCandidate>& out) const {
  if (kind == Kind::all_to_all || kind == Kind::gather || kind == Kind::scatter) {
    return;
  }
  const CollectiveKind as = kind == Kind::all_reduce       ? CollectiveKind::all_reduce
                            : kind == Kind::reduce_scatter ? CollectiveKind::reduce_scatter
                            : kind == Kind::all_gather     ? CollectiveKind::all_gather
                                                           : CollectiveKind::broadcast;
  const std::vector<Algorithm> all = algorithms(as, group);
  const auto name_of = [kind](const Algorithm& a) {
    return std::string(kind == Kind::broadcast || kind == Kind::reduce ? "chain" : a.name);
  };
  // The one that is priced as a whole: none where one protocol is asked for.
  const Algorithm* whole = &chosen_of(all, size);
  if (const CollectiveOverride* wanted = override_of(kind)) {
    const auto named =
        std::find_if(all.begin(), all.end(), [&](const Algorithm& a) { return name_of(a) == wanted->algorithm; });
    whole = wanted->protocol.empty() && named != all.end() ? &*named : nullptr;
  }
  std::size_t best = whole != nullptr && whole->only_simple ? kSimple : 0;
  for (std::size_t p = 0; whole != nullptr && !whole->only_simple && p < kProtocols; ++p) {
    best = whole->by_table(p, size) < whole->by_table(best, size) ? p : best;
  }
  for (const Algorithm& a : all) {
    for (std::size_t p = a.only_simple ? kSimple : 0; p < kProtocols; ++p) {
      CollectiveCandidate c;
      c.algorithm = name_of(a);
      c.protocol = topologies::kProtocolNames[p];
      c.latency = a.extra + a.latency[p];
      c.algbw = p == kSimple ? a.algbw : std::min(a.algbw, a.table_algbw[p]);
      c.table_seconds = a.by_table(p, size);
      c.chosen = &a == whole && p == best;
      const auto measured =
          c.chosen && override_of(kind) == nullptr ? prices_.collective(kind, size, group) : std::nullopt;
      c.seconds = measured   ? measured->seconds
                  : c.chosen ? a.seconds(size, kappa(group))
                             : a.seconds(p, size, kappa(group));
      out.push_back(std::move(c));
    }
  }
  // Those that NCCL has and does not consider here.
  nccl::System system;
  system.in_switch = in_switch() > 0;
  for (const nccl::Candidate& n :
       nccl::candidates(kind, {group.ranks, group.nodes, group.per_node}, system, newest_nccl())) {
    const std::string name = n.algorithm == "pat" ? "bruck" : n.algorithm;
    const bool shown = n.algorithm.rfind("nvls", 0) == 0 ||
                       std::any_of(out.begin(), out.end(), [&](const auto& c) { return c.algorithm == name; });
    if (!n.disabled.empty() && !shown) {
      CollectiveCandidate c;
      c.algorithm = n.algorithm;
      c.protocol = topologies::kProtocolNames[n.protocol];
      c.disabled = n.disabled;
      out.push_back(std::move(c));
    }
  }
}

void AlphaBeta::own_candidates(Kind kind, double size, const GroupPlacement& group,
                               std::vector<CollectiveCandidate>& out) const {
  const CollectiveKind as = kind == Kind::all_to_all ? CollectiveKind::all_to_all : CollectiveKind::all_gather;
  GroupPlacement one = group;
  one.per_node = one.fewest = 1;
  const Hops& hops = newest_nccl().hops.at("ring");
  const collective::Fabric fabric{node_bandwidth(as), fabric_bandwidth(as, one), node_hop(hops, kSimple),
                                  fabric_hop(hops, kSimple), 1};
  closed_form_candidates(kind, size, group, fabric, in_switch() > 0, out);
  for (CollectiveCandidate& c : out) {
    if (c.algorithm == "server") {  // what collective() takes
      const Star s = star(kind == Kind::gather ? CollectiveKind::gather : CollectiveKind::distribute, size, group);
      c.seconds = s.latency + std::max(s.node, s.fabric);
      c.algbw = size / c.seconds;
    }
    if (c.algorithm == "direct") {  // what collective() takes
      const auto measured = prices_.collective(kind, size, group);
      c.seconds = measured ? measured->seconds : all_to_all(size, group);
      c.algbw = c.seconds > 0 ? size / c.seconds : 0;
    }
  }
}

}  // namespace

std::unique_ptr<NetworkModel> make_alpha_beta(const topologies::Cluster& cluster,
                                              std::vector<CollectiveOverride> overrides) {
  return std::make_unique<AlphaBeta>(cluster, std::move(overrides));
}

}  // namespace foretrain::sim
