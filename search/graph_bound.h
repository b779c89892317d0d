// What a built plan takes at least, of a step's time: as search/shape_bound.h has it, with what each rank does around
// its microbatches (gradients summed, parameters updated and gathered), and no less than the ops of any one stream, nor
// than computing slowed by the communication of one stream.
#pragma once

#include "plan/graph.h"
#include "search/pipeline_rows.h"
#include "search/plan_space.h"
#include "topologies/cluster.h"

namespace foretrain::search {

struct GraphBound {
  Time step_time;  // at least
  // Where it takes the limit or longer, by how long ops take alone and what communication takes from computing: as long
  // take all plans that do the same ops on the same ranks, whenever. Else 0.
  Time in_any_order;
  // That devices compute, in the mean and at least, in a step that takes no more than the limit; 0 where none does, and
  // at the full clock.
  Time busy;
};
// At this clock (sim/power_limit.h). No more is found out than whether a step takes less than the limit.
GraphBound graph_bound(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Shape& shape,
                       PipelineRows& rows, double clock, Time limit);

}  // namespace foretrain::search
