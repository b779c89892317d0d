#include "sim/power_limit.h"

#include <algorithm>
#include <cmath>

#include "topologies/profile.h"

namespace foretrain::sim {

namespace {

constexpr double kWaiting = 0.2, kExponent = 0.4;
constexpr int kRounds = 30;  // each shrinks the error to less than half: 0.4 u (1 - w) R < 0.5

double sustained(const topologies::Cluster& cluster) {
  return cluster.profile == nullptr || !cluster.profile->has_roofline ? 1
                                                                      : cluster.profile->roofline.sustained_clock.value;
}

}  // namespace

double rounded_clock(double clock) {
  constexpr double kSteps = 1024;
  return std::round(clock * kSteps) / kSteps;
}

double sustained_clock(const topologies::Cluster& cluster, double busy) {
  const double s = sustained(cluster);
  return s >= 1 ? 1 : std::min(1.0, s * std::pow(busy + kWaiting * (1 - busy), -kExponent));
}

double sustained_clock(const topologies::Cluster& cluster, const plan::PlanGraph& graph,
                       const std::vector<plan::Breakdown>& by_role) {
  double compute = 0, bubble = 0, all = 0;
  for (std::size_t r = 0; r < by_role.size(); ++r) {
    const plan::Breakdown& b = by_role[r];
    const auto ranks = static_cast<double>(plan::count(graph.mesh, graph.roles[r].ranks));
    compute += ranks * seconds(b.compute + b.recompute);
    bubble += ranks * seconds(b.bubble);
    all += ranks * seconds(b.total());
  }
  if (sustained(cluster) >= 1 || all <= 0) {
    return 1;
  }
  double clock = 1;
  for (int round = 0; round < kRounds; ++round) {
    const double busy = compute / (compute + bubble + (all - compute - bubble) * clock);
    clock = sustained_clock(cluster, busy);
  }
  return rounded_clock(clock);
}

}  // namespace foretrain::sim
