// The rules that tie the parts of a job together: sizes that must divide, ranks that must multiply up.
#pragma once

#include "base/json.h"
#include "plan/job.h"

namespace foretrain::plan {

// The parts of the document, for the place in a message, and whether each was read without a mistake: a rule is judged
// only where what it speaks of was.
struct JobParts {
  ObjectReader &workload, &cluster, &strategy;
  bool workload_ok, cluster_ok, strategy_ok;
};

// Fills in what follows from the whole job (dp, nodes), then records every broken rule.
void complete_and_check(Job& job, const JobParts& parts);

// data_parallel_check.cpp, for the above: what the model and the optimizer mean for how replicas stay alike.
void check_data_parallel(const Job& job, ObjectReader& strategy);

// Hosts that are named have one role each, and as many ranks as each other. REQUIRES: some are.
void check_roles(const Job& job, ObjectReader& cluster);

// model_check.cpp, for the above: what a kind of model asks of the strategy.
void check_model(const Job& job, ObjectReader& strategy);

}  // namespace foretrain::plan
