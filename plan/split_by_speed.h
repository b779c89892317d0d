// Work by speed, where devices differ (cluster.disturbance): layers along pp, then microbatches along dp.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "plan/job.h"

namespace foretrain::plan {

// Whole parts of `total` such that the longest of part / speed is as short as can be; of splits that are, the one which
// deals out part after part to whoever would then be done first, the earlier one of equals. Each has one at least.
// REQUIRES: total >= the number of speeds, which are more than 0.
std::vector<std::int64_t> apportion(std::int64_t total, const std::vector<double>& speeds);

// Completes the strategy of a job with split_by_speed: layers_per_stage, unless they are given, by the slowest device
// of each stage, and microbatches_of. Records what that is not built with.
void split_by_speed(Job& job, ObjectReader& strategy);

}  // namespace foretrain::plan
