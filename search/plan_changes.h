// Changes of a plan that one would try next, each simulated: which of them help, and which would with more memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plan/job.h"
#include "reports/explain.h"
#include "search/watch.h"
#include "sim/simulator.h"

namespace foretrain::search {

// A job with further overrides, its profile loaded. Throws InputError where they do not go together. Called from many
// threads.
using LoadJob = std::function<plan::Job(const std::vector<std::string>&)>;

using reports::ChangedPlan;
using reports::PlanChange;

// One step away from the job's plan: recomputation, what is shared out and overlapped, microbatches, schedule, and the
// devices split another way. Same cluster, same batch, same result of training. Some may not go with the rest of the
// job.
std::vector<PlanChange> plan_changes(const plan::Job& job);

// Those that the job allows, the shortest steps first, but for those that an interruption left out.
std::vector<ChangedPlan> changed_plans(const plan::Job& job, const LoadJob& load, const sim::Options& options,
                                       Time base, const Watch& watch = {});

}  // namespace foretrain::search
