#include "sim/network.h"

#include <algorithm>

#include "base/error.h"
#include "topologies/profile.h"

namespace foretrain::sim {

GroupPlacement place_group(const plan::Mesh& mesh, const plan::Group& group, plan::Rank member, int devices_per_node) {
  GroupPlacement p;
  std::vector<plan::Rank> ranks = plan::members(mesh, group, member);
  std::sort(ranks.begin(), ranks.end());
  p.ranks = static_cast<int>(ranks.size());
  p.nodes = 0;
  p.per_node = 0;
  plan::Rank node = -1;
  int here = 0;
  for (const plan::Rank r : ranks) {
    if (r / devices_per_node != node) {
      node = r / devices_per_node;
      here = 0;
      ++p.nodes;
    }
    p.per_node = std::max(p.per_node, ++here);
  }
  return p;
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
                                                 std::vector<CollectiveOverride> overrides) {
  const bool has_tables = cluster.profile != nullptr && !cluster.profile->measured.collectives.empty();
  const std::string chosen = name == "auto" ? (has_tables ? "measured" : "alpha_beta") : name;
  if (chosen == "alpha_beta" || chosen == kFairShare) {
    return make_alpha_beta(cluster, std::move(overrides));
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
    return make_measured_network(cluster);
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
