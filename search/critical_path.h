// The chain of ops that made a step as long as it is, walked back from its end: before each op stands what ended when
// it began, on the same rank where something did, else on another (the last to come to a meeting).
#pragma once

#include <vector>

#include "plan/graph.h"
#include "plan/timeline.h"
#include "reports/explain.h"
#include "topologies/cluster.h"

namespace foretrain::search {

using reports::PathPart;

// Parts sum to the time from the end of the step before (or the timeline's beginning) to the end of the timeline's last
// step; the longest first.
std::vector<PathPart> critical_path(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                    const plan::Timeline& timeline);

}  // namespace foretrain::search
