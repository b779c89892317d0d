#include "sim/network.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "topologies/profile.h"

namespace foretrain::sim {

namespace {

// Of ascending ranks, all of them moved by `by`.
GroupPlacement place(const std::vector<plan::Rank>& ranks, plan::Rank by, int devices_per_node) {
  GroupPlacement p;
  p.ranks = static_cast<int>(ranks.size());
  p.nodes = 0;
  p.per_node = 0;
  plan::Rank node = -1;
  int here = 0;
  for (const plan::Rank r : ranks) {
    if ((r + by) / devices_per_node != node) {
      p.fewest = p.nodes > 0 ? std::min(p.fewest, here) : p.ranks;
      node = (r + by) / devices_per_node;
      here = 0;
      ++p.nodes;
    }
    p.per_node = std::max(p.per_node, ++here);
  }
  p.fewest = std::min(p.fewest, here);
  return p;
}

std::vector<plan::Rank> ascending_members(const plan::Mesh& mesh, const plan::Group& group, plan::Rank member) {
  std::vector<plan::Rank> ranks = plan::members(mesh, group, member);
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

std::unique_ptr<NetworkModel> over_hosts(const topologies::Cluster& cluster, std::unique_ptr<NetworkModel> inside) {
  return cluster.is_hosts() ? make_hosts_network(cluster, std::move(inside)) : std::move(inside);
}

}  // namespace

GroupPlacement place_group(const plan::Mesh& mesh, const plan::Group& group, plan::Rank member, int devices_per_node) {
  return place(ascending_members(mesh, group, member), 0, devices_per_node);
}

// Groups of one kind are the same ranks moved along the other axes, or by blocks; where they sit follows from the
// place of their first rank on its node.
GroupPlacement widest_group(const plan::Mesh& mesh, const plan::Group& group, const plan::RankSet& ranks,
                            int devices_per_node) {
  const plan::Rank member = plan::first_rank(mesh, ranks);
  const std::vector<plan::Rank> members = ascending_members(mesh, group, member);
  const int first = static_cast<int>(members.front() % devices_per_node);
  std::vector<bool> is_taken(static_cast<std::size_t>(devices_per_node));
  is_taken[static_cast<std::size_t>(first)] = true;
  std::vector<int> places{first};
  for (const plan::Axis axis : mesh.order) {
    if (std::any_of(ranks.fixed.begin(), ranks.fixed.end(),
                    [axis](const auto& f) { return f.axis == axis && f.count == 1; })) {
      continue;
    }
    const auto span =
        std::find_if(group.spans.begin(), group.spans.end(), [axis](const auto& s) { return s.axis == axis; });
    const int block = span == group.spans.end() ? 1 : span->block;
    if (block == 0) {
      continue;  // all groups have the same coordinates there
    }
    const plan::Rank step = mesh.stride(axis) * block;
    const int steps = std::min(mesh.size(axis) / block, devices_per_node);
    for (std::size_t i = 0, known = places.size(); i < known; ++i) {
      for (int s = 1; s < steps; ++s) {
        const auto other = static_cast<int>((places[i] + s * step) % devices_per_node);
        if (!is_taken[static_cast<std::size_t>(other)]) {
          is_taken[static_cast<std::size_t>(other)] = true;
          places.push_back(other);
        }
      }
    }
  }
  GroupPlacement widest = place(members, 0, devices_per_node);
  if (widest.nodes == widest.ranks || widest.ranks == 1) {
    return widest;
  }
  for (const int at : places) {
    const GroupPlacement p = place(members, at - first + devices_per_node, devices_per_node);
    if (std::tuple(-p.nodes, p.fewest, p.per_node) < std::tuple(-widest.nodes, widest.fewest, widest.per_node)) {
      widest = p;
    }
  }
  return widest;
}

const std::vector<ModelCard>& network_models() {
  static const std::vector<ModelCard> cards{
      {"alpha_beta", "latency + bytes/bandwidth per algorithm and protocol, chosen as NCCL does; no contention"},
      {kFairShare, "alone as alpha_beta; what shares links is flows over the fabric's routes, max-min fair"},
      {"measured", "tables of a calibrated profile, interpolated; knows only ranks of the machine they were taken on"},
  };
  return cards;
}

std::unique_ptr<NetworkModel> make_network_model(const std::string& name, const topologies::Cluster& cluster,
                                                 std::vector<CollectiveOverride> overrides, std::int64_t ranks) {
  const bool has_tables = cluster.profile != nullptr && !cluster.profile->measured.collectives.empty();
  const std::string chosen = name == "auto" ? (has_tables ? "measured" : "alpha_beta") : name;
  if (chosen == "alpha_beta" || chosen == kFairShare) {
    return over_hosts(cluster, make_alpha_beta(cluster, std::move(overrides)));
  }
  if (chosen == "measured") {
    if (!overrides.empty()) {
      throw InputError("network model \"measured\" has tables and no algorithms to choose from; take alpha_beta");
    }
    if (!has_tables) {
      throw InputError(fmt::format(
          "network model \"measured\": {} has no measured collectives; expected a profile made by calibrate",
          cluster.name));
    }
    return over_hosts(cluster, make_measured_network(cluster, !cluster.is_gpu && ranks > cluster.cores()));
  }
  std::vector<std::string> known{"auto"};
  std::string list = "auto";
  for (const ModelCard& card : network_models()) {
    known.emplace_back(card.name);
    list += fmt::format(", {}", card.name);
  }
  const std::string nearest = nearest_word(name, known);
  throw InputError(fmt::format("unknown network model \"{}\"; {}known: {}", name,
                               nearest.empty() ? "" : fmt::format("did you mean \"{}\"? ", nearest), list));
}

}  // namespace foretrain::sim
