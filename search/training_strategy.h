// How a row's run was laid out, as the job file says it: its strategy, and what of its workload belongs to a run.
#pragma once

#include "search/job_filler.h"
#include "search/training_row.h"

namespace foretrain::search {

bool knows_schedule(const TrainingRow& row);
bool runs_dualpipe(const TrainingRow& row);

void fill_strategy(const TrainingRow& row, Filler& f);

}  // namespace foretrain::search
