#include "reports/figures.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace foretrain::reports {

std::vector<std::pair<std::string, Time>> breakdown_parts(const plan::Breakdown& b) {
  return {{"compute", b.compute},       {"recompute", b.recompute},
          {"exposed_tp", b.exposed_tp}, {"exposed_dp", b.exposed_dp},
          {"exposed_pp", b.exposed_pp}, {"exposed_cp", b.exposed_cp},
          {"exposed_ep", b.exposed_ep}, {"bubble", b.bubble},
          {"optimizer", b.optimizer},   {"host", b.host}};
}

nlohmann::ordered_json breakdown_json(const plan::Breakdown& b) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, time] : breakdown_parts(b)) {
    out[name] = seconds(time);
  }
  return out;
}

plan::Breakdown mean_over_ranks(const plan::PlanGraph& graph, const std::vector<plan::Breakdown>& by_role) {
  CHECK(by_role.size() == graph.roles.size(), "breakdowns of {} roles for a graph of {}", by_role.size(),
        graph.roles.size());
  std::vector<plan::RankBreakdown> ranks;
  for (std::size_t i = 0; i < by_role.size(); ++i) {
    const plan::RankSet& set = graph.roles[i].ranks;
    ranks.push_back(
        {plan::first_rank(graph.mesh, set), static_cast<std::int32_t>(plan::count(graph.mesh, set)), {by_role[i]}});
  }
  return plan::mean_breakdown(ranks, 0);
}

std::size_t hungriest_role(const plan::PlanGraph& graph) {
  CHECK(!graph.roles.empty(), "a graph without roles");
  const auto largest = std::max_element(graph.roles.begin(), graph.roles.end(),
                                        [](const auto& a, const auto& b) { return a.memory.arena < b.memory.arena; });
  return static_cast<std::size_t>(largest - graph.roles.begin());
}

Bytes most_on_host(const plan::PlanGraph& graph) {
  Bytes most;
  for (const plan::Role& role : graph.roles) {
    most = std::max(most, role.memory.host);
  }
  return most;
}

}  // namespace foretrain::reports
