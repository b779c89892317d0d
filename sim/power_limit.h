// The clock that a power limit leaves in a step. Benchmarks of kernels last milliseconds and begin on rested devices; a
// power limiter averages over longer than that, and what a step of seconds may draw in the mean depends on how long its
// devices wait:
//   clock = min(1, sustained (u + w (1 - u))^-0.4),  u = A / (A + B + R clock)
// sustained: the profile's, of devices that never wait; u: share of the step in which they compute, from the shares A
// of compute, B of bubbles, which grow with it, and R of everything else at the full clock; w = 0.2: power while
// waiting, of the limit: between compute it falls to between 20 and 75 % (POLCA, arXiv:2308.12908, section 4: training
// of three models). The exponent is the one by which parts with other limits differ (scripts/fit-kernels). Holds for:
// devices of one job, which have one clock. Known wrong: the share is the mean over all ranks, as if the devices of a
// node had their power together: stages that never wait beside others that do are as fast as these (B200);
// communication draws what waiting does.
#pragma once

#include <vector>

#include "plan/breakdown.h"
#include "plan/graph.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

// To a multiple of 1/1024: coarse enough for any way of adding up the same times.
double rounded_clock(double clock);

// Relative to that of the profile's figures, rounded; `by_role`: where time goes at that clock. 1 for
// devices that nobody found to slow down.
double sustained_clock(const topologies::Cluster& cluster, const plan::PlanGraph& graph,
                       const std::vector<plan::Breakdown>& by_role);
// The same where they compute `busy` of the time, not rounded.
double sustained_clock(const topologies::Cluster& cluster, double busy);

}  // namespace foretrain::sim
