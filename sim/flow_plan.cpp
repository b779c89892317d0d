#include "sim/flow_plan.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace foretrain::sim {
namespace {

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

void append_use(std::vector<LinkUse>& route, LinkIndex link, std::int64_t use, std::int32_t scale) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;  // uses of one link add
  CHECK(scale <= kMostScale, "a link of 2^{} times 50 TB/s", scale);
  for (; use > 0; use -= std::min(use, kMost)) {
    route.push_back({link, static_cast<std::int32_t>(std::min(use, kMost)), kWholeUse << scale});
  }
}

}  // namespace

FlowPlan make_flow_plan(const std::vector<RoleModel>& models, const Meetings& meetings, const LinkLoads& loads,
                        const Partition& partition, std::vector<RankClass>& classes) {
  FlowPlan plan;
  // The first link of each class stands for it.
  std::vector<std::int32_t> stands_for;  // by link class
  std::vector<std::int32_t> scale;
  for (std::size_t l = 0; l < loads.links.size(); ++l) {
    if (at(partition.link[l]) == stands_for.size()) {
      stands_for.push_back(static_cast<std::int32_t>(l));
      scale.push_back(loads.links[l].scale);
      plan.capacities.push_back({static_cast<double>(loads.links[l].capacity) / static_cast<double>(kRateUnits)});
    }
  }
  const auto is_first = [&](const LinkLoads::Load& l) { return stands_for[at(partition.link[at(l.link)])] == l.link; };
  std::map<std::pair<std::int32_t, std::int32_t>, std::map<std::int32_t, std::int64_t>> uses;
  for (const LinkLoads::Load& l : loads.loads) {
    auto& of_flow = uses[{partition.instance[at(l.instance)], l.shape}];
    if (is_first(l)) {
      of_flow[partition.link[at(l.link)]] += l.use;
    }
  }
  std::map<std::pair<std::int32_t, TrafficShape>, std::int32_t> routes;
  for (const auto& [flow, of_link] : uses) {
    routes[{flow.first, loads.shapes[at(flow.second)]}] = static_cast<std::int32_t>(plan.routes.size());
    std::vector<LinkUse>& route = plan.routes.emplace_back();
    for (const auto& [link, use] : of_link) {
      append_use(route, link, use, scale[at(link)]);
    }
  }
  for (const LinkLoads::Background& b : loads.background) {
    FlowPlan::Background& flow = plan.background.emplace_back();
    flow.cap = b.cap;
    for (const LinkLoads::Load& l : b.loads) {
      if (is_first(l)) {
        append_use(flow.route, partition.link[at(l.link)], l.use, scale[at(partition.link[at(l.link)])]);
      }
    }
  }
  for (RankClass& c : classes) {
    const std::vector<std::int32_t>& instances = meetings.of_rank[meetings.orbits.index(c.first)];
    for (const Lane& lane : models[at(c.role)].lanes) {
      const auto found = routes.find({partition.instance[at(instances[at(lane.view)])], lane.shape});
      c.routes.push_back(found == routes.end() ? -1 : found->second);
    }
  }
  return plan;
}

}  // namespace foretrain::sim
