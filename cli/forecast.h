// What `estimate` and `report` say of a job, once it is simulated.
#pragma once

#include "cli/job.h"
#include "plan/graph.h"
#include "plan/job.h"
#include "reports/estimate.h"
#include "sim/simulator.h"

namespace foretrain::cli {

// With the fixes of a job that does not fit, and notes. Job and graph must outlive it.
reports::Estimate forecast(const JobArguments& arguments, const ModelArguments& models, const plan::Job& job,
                           const plan::PlanGraph& graph, const sim::Simulation& simulation);

}  // namespace foretrain::cli
