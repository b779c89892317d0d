// Job -> plan graph: mesh, roles, parameters, blocks, segments, program, memory.
#pragma once

#include "plan/graph.h"
#include "plan/job.h"

namespace foretrain::plan {

// The placed graph of a job. Throws InputError for a schedule that does not fit the job.
PlanGraph build(const Job& job);
// The same but for where its buffers lie (Role::memory): enough to simulate it, and to replay its memory.
PlanGraph build_unplaced(const Job& job);

// The same workload, microbatches and numerics on one rank: what `run --verify` compares with.
Job one_rank_job(const Job& job);

}  // namespace foretrain::plan
