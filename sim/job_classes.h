// What of a job is simulated once: its classes of ranks, and of the meetings and links that they share.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/flow_plan.h"
#include "sim/rank_classes.h"

namespace foretrain::sim {

struct JobClasses {
  std::vector<RankClass> classes;
  FlowPlan flows;             // empty: every meeting takes as long as it would alone
  bool has_too_many = false;  // where_cheap: links could hold meetings back, but would take apart too many classes
};

// Whether meetings are flows where links can hold them back.
enum class SharedLinks {
  no,
  where_cheap,  // unless that takes apart more than kMostClasses of what would be one class otherwise
  yes,
};
inline constexpr std::size_t kMostClasses = 256;

// `colour`: by rank, of those that are not as fast as each other; empty: all are. `fold` false: every rank by itself.
JobClasses find_classes(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                        const topologies::Cluster& cluster, const std::vector<std::int32_t>& colour,
                        SharedLinks shared_links, bool fold);

}  // namespace foretrain::sim
