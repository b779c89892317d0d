#include "sim/extra_latency.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "sim/collective/double_tree.h"
#include "sim/traffic.h"
#include "topologies/fabric.h"

namespace foretrain::sim {
namespace {

using plan::Rank;

// One ring: by node its members and e to the next node.
struct RingNode {
  std::size_t members = 0;
  double to_next = 0;
};

void raise(double& figure, double to) {
  figure = std::max(figure, to);
}

void add_ring(const std::vector<RingNode>& ring, ExtraLatency& extra) {
  double sum = 0, least = std::numeric_limits<double>::infinity(), least_two = least;
  for (std::size_t i = 0; i < ring.size(); ++i) {
    const RingNode& next = ring[(i + 1) % ring.size()];
    sum += ring[i].to_next;
    least = std::min(least, next.members > 1 ? 0 : next.to_next);
    // Two hops in a row around `next`: both of them leave a node, one of them does, or none.
    const double two = next.members == 1   ? ring[i].to_next + next.to_next
                       : next.members == 2 ? std::min(ring[i].to_next, next.to_next)
                                           : 0;
    least_two = std::min(least_two, two);
  }
  raise(extra.once, sum - least);
  raise(extra.twice, 2 * sum - least_two);
}

// `edge`: e between two nodes.
template <class Edge>
double deepest(int nodes, Edge edge) {
  const collective::DoubleTree trees(nodes);
  double most = 0;
  for (int tree = 0; tree < 2; ++tree) {
    std::vector<double> up(static_cast<std::size_t>(nodes), 0);
    for (int v = 0; v < nodes; ++v) {
      const int parent = trees.parent(tree, v);
      up[static_cast<std::size_t>(v)] = parent < 0 ? 0 : edge(v, parent);
    }
    for (int v = 0; v < nodes; ++v) {
      double sum = 0;
      for (int u = v; u >= 0; u = trees.parent(tree, u)) {
        sum += up[static_cast<std::size_t>(u)];
      }
      raise(most, sum);
    }
  }
  return most;
}

}  // namespace

double extra_seconds(collective::Kind kind, std::string_view algorithm, const ExtraLatency& extra, int nodes) {
  const bool both_ways = kind == collective::Kind::all_reduce;
  if (algorithm == "ring" || algorithm == "hierarchical" || algorithm == "chain") {
    return both_ways ? extra.twice : extra.once;
  }
  if (algorithm == "tree" || algorithm == "in_switch_tree") {
    return 2 * extra.tree;
  }
  if (algorithm == "bruck" || algorithm == "halving_doubling" || algorithm == "binomial") {
    return (both_ways ? 2 : 1) * std::ceil(std::log2(nodes)) * extra.farthest;
  }
  return extra.farthest;
}

LongRoutes::LongRoutes(const topologies::Cluster& cluster) : per_unit_(topologies::devices_per_unit(cluster)) {
  const topologies::Fabric* fabric = cluster.fabric.get();
  const bool between_sites = fabric != nullptr && fabric->sites.count > 1 && fabric->sites.latency.value > 0;
  if (fabric == nullptr || cluster.device_count() <= per_unit_ ||
      (fabric->switch_latency.value == 0 && !between_sites)) {
    return;
  }
  topologies::Fabric nominal = *fabric;
  nominal.switch_latency = nominal.sites.latency = {};
  topologies::Cluster plain = cluster;
  plain.fabric = std::make_shared<const topologies::Fabric>(std::move(nominal));
  network_ = topologies::make_network(cluster);
  plain_ = topologies::make_network(plain);
}

double LongRoutes::between(Rank from, Rank to) const {
  if (from / per_unit_ == to / per_unit_) {
    return 0;
  }
  try {
    network_->route(from, to, 0, route_);
    const Time latency = route_.latency;
    plain_->route(from, to, 0, route_);
    return seconds(latency - route_.latency);
  } catch (const InputError&) {
    return 0;
  }
}

double LongRoutes::farthest(std::span<const Rank> members) const {
  double most = 0;
  Rank from = members.front(), to = from;
  for (int sweep = 0; sweep < 2; ++sweep) {
    for (const Rank r : members) {
      const double e = between(from, r);
      to = e > most ? r : to;
      raise(most, e);
    }
    from = to;
  }
  return most;
}

ExtraLatency LongRoutes::of(std::span<const Rank> members) const {
  ExtraLatency extra;
  const auto nodes = by_node(members, per_unit_);
  if (!any() || nodes.size() < 2) {
    return extra;
  }
  extra.farthest = farthest(members);
  std::size_t rails = 0;
  for (const auto& node : nodes) {
    rails = std::max(rails, node.size());
  }
  std::vector<RingNode> ring(nodes.size());
  for (std::size_t rail = 0; rail < rails; ++rail) {
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const auto &here = nodes[i], next = nodes[(i + 1) % nodes.size()];
      ring[i] = {here.size(), between(here[rail % here.size()], next[rail % next.size()])};
    }
    add_ring(ring, extra);
  }
  extra.tree = deepest(static_cast<int>(nodes.size()), [&](int from, int to) {
    return between(nodes[static_cast<std::size_t>(from)].front(), nodes[static_cast<std::size_t>(to)].front());
  });
  return extra;
}

ExtraLatency LongRoutes::of(const plan::Mesh& mesh, const plan::Group& group, const plan::RankSet& ranks) const {
  ExtraLatency most;
  if (!any()) {
    return most;
  }
  std::vector<bool> is_known(static_cast<std::size_t>(mesh.ranks()));
  for (Rank r = 0; r < mesh.ranks(); ++r) {
    if (is_known[static_cast<std::size_t>(r)] || !plan::contains(mesh, ranks, r) || !plan::contains(mesh, group, r)) {
      continue;
    }
    std::vector<Rank> members = plan::members(mesh, group, r);
    std::sort(members.begin(), members.end());
    for (const Rank member : members) {
      is_known[static_cast<std::size_t>(member)] = true;
    }
    const ExtraLatency extra = of(members);
    raise(most.once, extra.once);
    raise(most.twice, extra.twice);
    raise(most.tree, extra.tree);
    raise(most.farthest, extra.farthest);
  }
  return most;
}

double LongRoutes::of_messages(const plan::Mesh& mesh, const plan::RankSet& ranks, const plan::Message& message) const {
  double most = 0;
  for (Rank r = 0; any() && r < mesh.ranks(); ++r) {
    if (plan::contains(mesh, ranks, r)) {
      const Rank other = mesh.peer(r, message.axis, message.peer, message.relative);
      raise(most, message.send ? between(r, other) : between(other, r));
    }
  }
  return most;
}

}  // namespace foretrain::sim
