// The Monte Carlo of search/whole_run.h. Times are whole microseconds inside: sums do not depend on their order.
#pragma once

#include <cstdint>
#include <vector>

#include "reports/whole_run.h"
#include "topologies/operations.h"

namespace foretrain::search {

// Segments of `segment_steps` steps, as many as go, and one of `last_steps`, each with its write.
struct RunShape {
  std::int64_t segments = 0, segment_steps = 0, last_steps = 0;
  double step_seconds = 0, write_seconds = 0;
  std::int64_t devices = 1;

  std::int64_t steps() const { return segments * segment_steps + last_steps; }
};

struct SampledRun {
  reports::RunShares shares;
  std::int64_t planned = 0;
  std::vector<std::int32_t> failures;  // by cause
};

// Runs 0 … runs - 1, each from its own stream of random numbers; on all cores, the same on however many.
std::vector<SampledRun> sample_runs(const RunShape& shape, const topologies::Operations& operations, std::int64_t runs,
                                    std::int64_t seed);

}  // namespace foretrain::search
