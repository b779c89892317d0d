// How the model of a published run becomes a job's: what the row states, and rules for the rest.
#pragma once

#include "search/job_filler.h"

namespace foretrain::search {

// Also the ranks that experts are spread over.
void fill_model(const TrainingRow& row, Filler& f);

}  // namespace foretrain::search
