// What a built plan takes at least, of a step's time: as search/shape_bound.h has it, with what each rank does around
// its microbatches (gradients summed, parameters updated and gathered), and no less than the ops of any one stream.
#pragma once

#include "plan/graph.h"
#include "search/pipeline_rows.h"
#include "search/plan_space.h"
#include "topologies/cluster.h"

namespace foretrain::search {

// At this clock (sim/power_limit.h).
Time least_step_time(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Shape& shape,
                     PipelineRows& rows, double clock);

}  // namespace foretrain::search
