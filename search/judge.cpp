#include "search/judge.h"

#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "plan/breakdown_shares.h"
#include "plan/build.h"
#include "search/graph_bound.h"
#include "sim/power_limit.h"
#include "sim/simulator.h"

namespace foretrain::search {

namespace {

using nlohmann::json;

plan::Breakdown mean_over_ranks(const plan::PlanGraph& graph, const std::vector<plan::Breakdown>& by_role) {
  std::vector<plan::RankBreakdown> ranks;
  for (std::size_t r = 0; r < by_role.size(); ++r) {
    const plan::RankSet& set = graph.roles[r].ranks;
    ranks.push_back(
        {plan::first_rank(graph.mesh, set), static_cast<std::int32_t>(plan::count(graph.mesh, set)), {by_role[r]}});
  }
  return plan::mean_breakdown(ranks, 0);
}

// By closed forms, less what they may be above a simulation. At a clock of 0 at the one that they leave themselves:
// what links that are shared add lets devices wait, and the clock rise, by which computing becomes less by less than
// half of it (sim/power_limit.h).
class ClosedForms {
 public:
  ClosedForms(const plan::Job& job, const plan::PlanGraph& graph)
      : exact_(job.cluster.this_machine), options_(options(exact_)), simulator_(graph, job.cluster, options_) {}

  Time least(double clock) {
    const sim::Simulation s = simulator_.at(clock);
    unlike = s.unlike;
    const auto took = static_cast<double>(s.step_time.value);
    return Time{static_cast<std::int64_t>(took * (exact_ ? 1 : 1 - kClosed))};
  }

  std::size_t unlike = 0;  // sim::Simulation::unlike, of the last

 private:
  static sim::Options options(bool exact) {
    sim::Options o;
    o.network_model = exact ? "auto" : "alpha_beta";
    o.slows_communication = exact;
    return o;
  }

  const bool exact_;
  const sim::Options options_;
  sim::Simulator simulator_;
};

// What the graph takes at least, at the highest clock that it can have and take less than `limit`.
struct AtClock {
  Time step_time, in_any_order;
  double clock = 1;
};

// First at the clock of the shape's bound, then at that of what the graph computes: a step takes longer than at the
// full clock by what its devices compute longer, and they compute no less than `clock` of it at the full one.
AtClock least_at_clock(const plan::Job& job, const plan::PlanGraph& graph, const Shape& shape, ShapeBounds& bounds,
                       Time limit) {
  const double clock = bounds.clock(shape, limit);
  const GraphBound bound = graph_bound(graph, job.cluster, shape, bounds.rows(), clock, limit);
  if (bound.step_time >= limit || clock >= 1) {
    return {bound.step_time, bound.in_any_order, clock};
  }
  const double busy = static_cast<double>(bound.busy.value), full = clock * busy;
  const double share = std::min(1.0, full / (static_cast<double>(limit.value) - busy + full));
  const double lower = std::min(clock, sim::rounded_clock(sim::sustained_clock(job.cluster, share)));
  return {
      lower < clock ? graph_bound(graph, job.cluster, shape, bounds.rows(), lower, limit).step_time : bound.step_time,
      bound.in_any_order, lower};
}

// `look` says why the plan is rejected; "": it is not.
template <class Look>
Verdict judge_built(const plan::OpenJob& open, const Shape& shape, const Tail& tail, const Look& look) {
  Verdict v;
  v.judged = true;
  v.found.shape = shape;
  v.found.tail = tail;
  try {
    const plan::Job job = plan::with_strategy(open.job, strategy_of(open, shape, tail));
    const plan::PlanGraph graph = plan::build_unplaced(job);
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

Verdict judge(const plan::OpenJob& open, ShapeBounds& bounds, const Shape& shape, const Tail& tail, Time limit,
              Bytes capacity) {
  return judge_built(open, shape, tail,
                     [&](const plan::Job& job, const plan::PlanGraph& graph, Verdict& v) -> std::string {
                       v.found.memory = plan::least_demand(job, graph);
                       if (v.found.memory > capacity && !job.cluster.shares_devices()) {
                         return kTooLargeByBound;
                       }
                       const AtClock least = least_at_clock(job, graph, shape, bounds, limit);
                       v.found.in_any_order = least.in_any_order;
                       if (least.step_time >= limit) {
                         return kSlower;
                       }
                       // Most need no simulation more, to find their own clock.
                       ClosedForms alone(job, graph);
                       if (least.clock < 1 && alone.least(least.clock) >= limit) {
                         return kSlowerAlone;
                       }
                       v.found.alone = alone.least(0);
                       v.found.unlike = alone.unlike;
                       return v.found.alone >= limit ? kSlowerAlone : "";
                     });
}

std::string same_alone(const plan::OpenJob& open, const ShapeBounds& bounds, const Shape& shape, Tail tail) {
  if (tail.rank_order == kDataOutside && bounds.has_like_orders(shape)) {
    tail.rank_order = kRankOrder;
  }
  return strategy_of(open, shape, tail).dump();
}

std::string same_ops(const plan::OpenJob& open, ShapeBounds& bounds, Shape shape, Tail tail) {
  // Without ZeRO-2 gradients are summed in buckets, and these end where a virtual stage does.
  const bool is_even = open.job.workload.model.repeated_layers() % (shape.pp * shape.virtual_stages) == 0;
  shape.virtual_stages = tail.zero >= 2 && is_even && bounds.has_like_layers(shape) ? 1 : shape.virtual_stages;
  tail.overlap_param_gather = false;
  return same_alone(open, bounds, shape, tail);
}

void replay_memory(const plan::OpenJob& open, Found& found) {
  const Verdict v = judge_memory(open, found.shape, found.tail);
  found.memory = v.found.memory;
  found.fits = v.rejected.empty();
}

void simulate(const plan::OpenJob& open, Found& found) {
  const plan::Job job = plan::with_strategy(open.job, strategy_of(open, found.shape, found.tail));
  const plan::PlanGraph graph = plan::build_unplaced(job);
  sim::Options options;
  options.unlike = found.unlike;
  const sim::Simulation s = sim::simulate(graph, job.cluster, options);
  found.step_time = s.step_time;
  found.breakdown = mean_over_ranks(graph, s.breakdown);
}

std::string packed(const Found& f) {
  json times = json::array();
  for (const plan::Share share : plan::kShares) {
    times.push_back((f.breakdown.*share).value);
  }
  return json{f.in_any_order.value, f.alone.value,    f.step_time.value, f.fits ? json(*f.fits) : json(nullptr),
              f.memory.value,       std::move(times), f.unlike}
      .dump();
}

void unpack(const std::string& text, Found& f) {
  const json all = json::parse(text);
  f.in_any_order.value = all[0];
  f.alone.value = all[1];
  f.step_time.value = all[2];
  f.fits = all[3].is_null() ? std::nullopt : std::optional(all[3].get<bool>());
  f.memory.value = all[4];
  for (std::size_t i = 0; i < std::size(plan::kShares); ++i) {
    (f.breakdown.*plan::kShares[i]).value = all[5][i];
  }
  f.unlike = all[6];
}

Verdict judge_memory(const plan::OpenJob& open, const Shape& shape, const Tail& tail) {
  return judge_built(open, shape, tail, [&](const plan::Job& job, const plan::PlanGraph& graph, Verdict& v) {
    return fits(job, graph, v) ? std::string() : std::string(kTooLarge);
  });
}

}  // namespace foretrain::search
