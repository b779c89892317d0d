#include "search/framework_costs.h"

namespace foretrain::search {

namespace {

constexpr const char* kFlash = "attention.flash";

bool is_below(const std::string& kind, const std::string& above) {
  return kind.starts_with(above + ".");
}

// The figure that held for the kind is its own or that of the nearest kind above it.
double figure_of(const std::map<std::string, topologies::Figure>& table, const std::string& kind) {
  double figure = 1;
  std::size_t nearest = 0;
  for (const auto& [known, value] : table) {
    if ((kind == known || is_below(kind, known)) && known.size() >= nearest) {
      figure = value.value;
      nearest = known.size();
    }
  }
  return figure;
}

}  // namespace

std::shared_ptr<const topologies::Profile> with_host(const std::shared_ptr<const topologies::Profile>& profile,
                                                     const HostCosts& costs) {
  if (profile == nullptr) {
    return profile;
  }
  auto changed = std::make_shared<topologies::Profile>(*profile);
  topologies::SharingFigures& sharing = changed->sharing;
  if (costs.submit) {
    sharing.submit = {*costs.submit, "submit_us"};
  }
  sharing.waits_each_pass = costs.waits_each_pass;
  return changed;
}

const std::vector<std::string>& cost_kinds() {
  static const std::vector<std::string> kinds{"norm",
                                              "activation",
                                              "rotary",
                                              "residual_add",
                                              "cross_entropy",
                                              "optimizer",
                                              "embedding",
                                              "accumulate",
                                              "attention.scale_mask",
                                              "attention.softmax",
                                              "attention.softmax_backward",
                                              "attention.scale_backward",
                                              "attention.scale_mask_softmax",
                                              "attention.softmax_scale_backward",
                                              kFlash};
  return kinds;
}

std::shared_ptr<const topologies::Profile> with_costs(const std::shared_ptr<const topologies::Profile>& profile,
                                                      const std::map<std::string, double>& costs) {
  if (costs.empty() || profile == nullptr || !profile->has_roofline) {
    return profile;
  }
  auto changed = std::make_shared<topologies::Profile>(*profile);
  topologies::Roofline& r = changed->roofline;
  for (const auto& [kind, cost] : costs) {
    if (kind == kFlash) {
      for (auto* table : {&r.attention_forward, &r.attention_backward}) {
        for (auto& [word, figure] : *table) {
          figure.value /= cost;
        }
      }
      continue;
    }
    const double figure = figure_of(profile->roofline.memory_by_kind, kind);
    for (auto& [known, value] : r.memory_by_kind) {
      value.value /= is_below(known, kind) ? cost : 1;
    }
    r.memory_by_kind[kind].value = figure / cost;
  }
  return changed;
}

}  // namespace foretrain::search
