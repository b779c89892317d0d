// The closed forms of search/whole_run.h: what sampled runs come to in the mean, and how often to write checkpoints.
#pragma once

#include "reports/whole_run.h"
#include "search/run_samples.h"
#include "topologies/operations.h"

namespace foretrain::search {

struct ExpectedRun {
  reports::RunShares shares;
  // The mean of useful over elapsed, and of training over elapsed, to first order: over sites and jitters of each's.
  double goodput = 0, training = 0;
  double planned = 0, spells = 0;
  std::vector<double> failures;  // by cause
};
ExpectedRun expected_run(const RunShape& shape, const topologies::Operations& operations);

// Steps between checkpoints for the shortest expected run of so many steps.
std::int64_t best_interval(std::int64_t steps, double step_seconds, double write_seconds, std::int64_t devices,
                           const topologies::Operations& operations);

// Times between checkpoints for a write w and a mean time between failures m. Young 1974 (doi:10.1145/361147.361115)
// sqrt(2 w m); Daly 2006, equation 37: sqrt(2 w m) (1 + sqrt(w / 2m) / 3 + (w / 2m) / 9) - w, and m from w = 2m on.
double young_interval(double write_seconds, double mtbf_seconds);
double daly_interval(double write_seconds, double mtbf_seconds);

}  // namespace foretrain::search
