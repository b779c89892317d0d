// What of a job is simulated once: its classes of ranks, and of the meetings and links that they share.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/flow_plan.h"
#include "sim/rank_classes.h"

namespace foretrain::sim {

// Which of the links that could hold meetings back are in the flows.
enum class LinksSeen {
  as_they_are,
  sprayed,  // hashed routes as if they were sprayed: what they are on average, without their collisions
  none,
};

struct JobClasses {
  std::vector<RankClass> classes;
  FlowPlan flows;  // empty: every meeting takes as long as it would alone
  LinksSeen seen = LinksSeen::as_they_are;
};

// Whether meetings are flows where links can hold them back.
enum class SharedLinks {
  no,
  where_cheap,  // as few of them as it takes to have no more classes of ranks than kMostClasses
  yes,
};
inline constexpr std::size_t kMostClasses = 256;

// `colour`: by rank, of those that are not as fast as each other; empty: all are. `fold` false: every rank by itself.
JobClasses find_classes(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                        const topologies::Cluster& cluster, const std::vector<std::int32_t>& colour,
                        SharedLinks shared_links, bool fold);

}  // namespace foretrain::sim
