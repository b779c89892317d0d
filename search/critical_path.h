// The chain of ops that made a step as long as it is, walked back from its end. Before each op stands, of those that
// ended when it began: one that it depends on; else the one before it on its stream; else what a partner of its meeting
// waited for in that way; else another of its rank, then the lowest rank and stream. Where none ended then, its rank
// waited: what it did last stands before the wait.
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
