#include "search/judge.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "plan/build.h"
#include "search/graph_bound.h"
#include "sim/power_limit.h"
#include "sim/simulator.h"

namespace foretrain::search {

namespace {

plan::Breakdown mean_over_ranks(const plan::PlanGraph& graph, const std::vector<plan::Breakdown>& by_role) {
  std::vector<plan::RankBreakdown> ranks;
  for (std::size_t r = 0; r < by_role.size(); ++r) {
    const plan::RankSet& set = graph.roles[r].ranks;
    ranks.push_back(
        {plan::first_rank(graph.mesh, set), static_cast<std::int32_t>(plan::count(graph.mesh, set)), {by_role[r]}});
  }
  return plan::mean_breakdown(ranks, 0);
}

// By closed forms of communication; at a clock of 0 at what the power limit leaves.
sim::Simulation alone(const plan::Job& job, const plan::PlanGraph& graph, double clock) {
  sim::Options options;
  options.network_model = job.cluster.this_machine ? "auto" : "alpha_beta";
  options.clock = clock;
  return sim::simulate(graph, job.cluster, options);
}

Time least_alone(const plan::Job& job, const plan::PlanGraph& graph, double clock) {
  const auto took = static_cast<double>(alone(job, graph, clock).step_time.value);
  return Time{static_cast<std::int64_t>(took * (job.cluster.this_machine ? 1 : 1 - kClosed))};
}

// As ShapeBounds::clock, from what devices compute in a simulation.
double lower_clock(const plan::Job& job, const plan::PlanGraph& graph, double clock, Time limit) {
  const plan::Breakdown mean = mean_over_ranks(graph, alone(job, graph, 1).breakdown);
  const double busy = static_cast<double>((mean.compute + mean.recompute).value) / static_cast<double>(limit.value);
  return std::min(clock, sim::rounded_clock(sim::sustained_clock(job.cluster, std::min(1.0, busy))));
}

// `look` says why the plan is rejected; "": it is not.
template <class Look>
Verdict judge_built(const plan::OpenJob& open, const Shape& shape, const Tail& tail, const Look& look) {
  Verdict v;
  v.found.shape = shape;
  v.found.tail = tail;
  try {
    const plan::Job job = plan::with_strategy(open.job, strategy_of(open, shape, tail));
    const plan::PlanGraph graph = plan::build(job);
    v.built = true;
    v.rejected = look(job, graph, v);
  } catch (const InputError& e) {
    const std::string what = e.what();
    v.rejected = what.substr(0, what.find('\n'));
  }
  return v;
}

bool fits(const plan::Job& job, const plan::PlanGraph& graph, Verdict& v) {
  const plan::MemoryFit fit = plan::memory_fit(job, graph);
  v.found.memory = fit.demand;
  return fit.fits();
}

}  // namespace

Verdict judge(const plan::OpenJob& open, ShapeBounds& bounds, const Shape& shape, const Tail& tail, Time limit) {
  return judge_built(open, shape, tail,
                     [&](const plan::Job& job, const plan::PlanGraph& graph, Verdict& v) -> std::string {
                       const double clock = bounds.clock(shape, limit);
                       if (least_step_time(graph, job.cluster, shape, bounds.rows(), clock) >= limit) {
                         return kSlower;
                       }
                       v.found.memory = plan::least_demand(job, graph);
                       if (v.found.memory > job.cluster.device.memory && !job.cluster.shares_devices()) {
                         return kTooLargeByBound;
                       }
                       v.found.alone = least_alone(job, graph, limit == kNever ? 0 : clock);
                       if (v.found.alone < limit && limit != kNever && clock < 1) {
                         v.found.alone = least_alone(job, graph, lower_clock(job, graph, clock, limit));
                       }
                       if (v.found.alone >= limit) {
                         return kSlowerAlone;
                       }
                       return fits(job, graph, v) ? "" : kTooLarge;
                     });
}

void simulate(const plan::OpenJob& open, Found& found) {
  const plan::Job job = plan::with_strategy(open.job, strategy_of(open, found.shape, found.tail));
  const plan::PlanGraph graph = plan::build(job);
  const sim::Simulation s = sim::simulate(graph, job.cluster, {});
  found.step_time = s.step_time;
  found.breakdown = mean_over_ranks(graph, s.breakdown);
}

Verdict judge_memory(const plan::OpenJob& open, const Shape& shape, const Tail& tail) {
  return judge_built(open, shape, tail, [&](const plan::Job& job, const plan::PlanGraph& graph, Verdict& v) {
    return fits(job, graph, v) ? std::string() : std::string(kTooLarge);
  });
}

}  // namespace foretrain::search
