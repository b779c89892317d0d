// What the estimate, run and compare reports share: breakdowns as named parts, means over ranks, the fullest rank.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "plan/breakdown.h"
#include "plan/graph.h"

namespace foretrain::reports {

// Every bucket with its name in documents ("exposed_tp"), in the order they are printed.
std::vector<std::pair<std::string, Time>> breakdown_parts(const plan::Breakdown& b);
nlohmann::ordered_json breakdown_json(const plan::Breakdown& b);

// By role, weighted with the ranks of each.
plan::Breakdown mean_over_ranks(const plan::PlanGraph& graph, const std::vector<plan::Breakdown>& by_role);

// Index of the role with the largest arena; the first of equals. REQUIRES: at least one role.
std::size_t hungriest_role(const plan::PlanGraph& graph);

// What the rank with most of it keeps on its host.
Bytes most_on_host(const plan::PlanGraph& graph);

}  // namespace foretrain::reports
