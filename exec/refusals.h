// What this executor cannot run where a run's ranks are, though the plan is sound: each throws InputError that names
// the job's word.
#pragma once

#include "exec/executor.h"
#include "plan/graph.h"

namespace foretrain::exec {

void refuse_graph(const plan::PlanGraph& graph, bool on_gpu, bool on_one_host);
// GPUs are as fast as they are, and take what the host has when they get there.
void refuse_pace_on_gpu(const plan::PlanGraph& graph, const RunOptions& options);

}  // namespace foretrain::exec
