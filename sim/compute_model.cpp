#include "sim/compute_model.h"

#include "base/error.h"
#include "topologies/profile.h"

namespace foretrain::sim {

const std::vector<ModelCard>& compute_models() {
  static const std::vector<ModelCard> cards{
      {"roofline",
       "peak x efficiency of tiles and waves, or memory bandwidth, and a launch; knows no cache and no other kernel"},
      {"measured",
       "tables of a calibrated profile, interpolated in log space; knows only the machine they were taken on"},
  };
  return cards;
}

std::unique_ptr<ComputeModel> make_compute_model(const std::string& name, const topologies::Cluster& cluster,
                                                 double clock) {
  const bool has_tables = cluster.profile != nullptr && !cluster.profile->measured.empty();
  const std::string chosen = name == "auto" ? (has_tables ? "measured" : "roofline") : name;
  if (chosen == "roofline") {
    return make_roofline(cluster, clock);
  }
  if (chosen == "measured") {
    if (!has_tables) {
      throw InputError(fmt::format(
          "compute model \"measured\": {} has no measured tables; expected a profile made by calibrate", cluster.name));
    }
    return make_measured_compute(cluster);
  }
  std::vector<std::string> known{"auto"};
  std::string list = "auto";
  for (const ModelCard& card : compute_models()) {
    known.emplace_back(card.name);
    list += fmt::format(", {}", card.name);
  }
  const std::string nearest = nearest_word(name, known);
  throw InputError(fmt::format("unknown compute model \"{}\"; {}known: {}", name,
                               nearest.empty() ? "" : fmt::format("did you mean \"{}\"? ", nearest), list));
}

}  // namespace foretrain::sim
