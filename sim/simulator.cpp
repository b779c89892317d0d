#include "sim/simulator.h"

#include <algorithm>

#include "base/error.h"
#include "sim/compute_model.h"
#include "sim/device_share.h"
#include "sim/disturbance.h"
#include "sim/engine.h"
#include "sim/event_rounds.h"
#include "sim/fold.h"
#include "sim/job_classes.h"
#include "sim/network.h"
#include "sim/period.h"
#include "sim/power_limit.h"
#include "sim/role_model.h"
#include "sim/scaled_latency.h"
#include "topologies/profile.h"

namespace foretrain::sim {

namespace {

// Of classes to means over the ranks of each role.
std::vector<plan::Breakdown> by_role(const plan::PlanGraph& graph, const std::vector<RankClass>& classes,
                                     const std::vector<plan::Breakdown>& by_class) {
  std::vector<std::vector<plan::RankBreakdown>> of_role(graph.roles.size());
  for (std::size_t c = 0; c < classes.size(); ++c) {
    of_role[static_cast<std::size_t>(classes[c].role)].push_back(
        {classes[c].first, static_cast<std::int32_t>(classes[c].multiplicity), {by_class[c]}});
  }
  std::vector<plan::Breakdown> result;
  for (const std::vector<plan::RankBreakdown>& ranks : of_role) {
    result.push_back(plan::mean_breakdown(ranks, 0));
  }
  return result;
}

// auto: wherever the closed forms are taken and devices communicate beside their work.
SharedLinks shared_links(const std::string& model, const topologies::Cluster& cluster, const NetworkModel& network) {
  if (cluster.is_hosts()) {
    return SharedLinks::yes;
  }
  const bool can = !cluster.device.exclusive_streams && !cluster.this_machine;
  if (model == kFairShare && !can) {
    throw InputError(fmt::format(
        "network model \"fair_share\": the ranks of {} share a machine, not links; expected alpha_beta or measured",
        cluster.name));
  }
  const bool needs_links = cluster.disturbance.needs_links();
  if (model == kFairShare || (model == "auto" && can && needs_links)) {
    return SharedLinks::yes;
  }
  if (needs_links) {
    throw InputError(fmt::format(
        "cluster.disturbance: links and background are for network model fair_share; {} knows no links", model));
  }
  return can && model == "auto" && network.name() == "alpha_beta" ? SharedLinks::where_cheap : SharedLinks::no;
}

// Counts, and passes on.
class StalenessTee : public plan::StalenessCount {
 public:
  StalenessTee(const plan::PlanGraph& graph, plan::SpanSink* sink) : StalenessCount(graph), sink_(sink) {}
  void span(const plan::Span& s) override {
    StalenessCount::span(s);
    if (sink_ != nullptr) {
      sink_->span(s);
    }
  }

 private:
  plan::SpanSink* sink_;
};

bool communication_takes(const std::vector<RoleModel>& models) {
  for (const RoleModel& model : models) {
    for (const std::vector<OpModel>& block : model.blocks) {
      for (const OpModel& op : block) {
        if (std::any_of(op.meetings.begin(), op.meetings.end(), [](const Meeting& m) { return !m.load.is_none(); })) {
          return true;
        }
      }
    }
  }
  return false;
}

// As sim/simulator.h has it, at this clock (sim/power_limit.h), of a graph whose steps are alike.
Simulation simulate_alike(double clock, const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                          const Options& options, plan::SpanSink* sink) {
  const std::unique_ptr<ComputeModel> compute = make_compute_model(options.compute_model, cluster, clock);
  const auto make_network = [&](const topologies::Cluster& c) {
    return scaled_latency(make_network_model(options.network_model, c, options.collectives, graph.mesh.ranks()),
                          options.latency);
  };
  const std::unique_ptr<NetworkModel> network = make_network(cluster);
  const bool exclusive = cluster.device.exclusive_streams;
  const Jitter jitter(cluster.disturbance.jitter, cluster.disturbance.seed);
  const bool fold_ranks = options.fold_ranks && jitter.is_none() && !graph.asynchronous;
  // Slow nodes are slow links where links are seen, else slow meetings.
  std::vector<RoleModel> models;
  std::vector<std::int32_t> first_model;
  JobClasses job;
  const auto find = [&](SharedLinks shared) {
    topologies::Cluster priced = cluster;
    if (shared != SharedLinks::no) {
      priced.disturbance.nodes.clear();
    }
    models = model_roles(graph, priced, *compute, *network);
    first_model = add_disturbed_models(graph, priced, *compute, make_network, models);
    job = find_classes(graph, models, cluster, first_model, shared, fold_ranks);
  };
  const SharedLinks shared = shared_links(options.network_model, cluster, *network);
  find(shared);
  Simulation result;
  result.links_seen = job.seen;
  if (shared == SharedLinks::where_cheap && job.flows.empty() && !cluster.disturbance.nodes.empty()) {
    find(SharedLinks::no);
  }
  for (RankClass& c : job.classes) {
    c.model += first_model.empty() ? 0 : first_model[static_cast<std::size_t>(c.first)];
  }
  ShareSpeeds speeds(*compute, sharing_figures(cluster));
  ShareSpeeds* sharing = options.share_devices && communication_takes(models) ? &speeds : nullptr;
  std::optional<StepTimes> times;
  const bool reads = std::any_of(models.begin(), models.end(), [](const RoleModel& m) { return m.reads.has_value(); });
  if (options.fold_time && sink == nullptr && !graph.asynchronous && !exclusive && !cluster.this_machine &&
      jitter.is_none() && !reads) {
    const std::optional<Rounds> rounds = find_rounds(graph, options.steps);
    times = run_folded(graph, models, job.classes, job.flows, options.steps, rounds ? &*rounds : nullptr, sharing);
    result.folded_time = times.has_value();
    if (!times && rounds) {
      times = run_rounds(graph, models, job.classes, *rounds, {options.steps, false, jitter, job.flows, sharing});
    }
  }
  if (!times) {
    const int steps = graph.asynchronous ? std::max(options.steps, kAsynchronousSteps) : options.steps;
    StalenessTee count(graph, sink);
    times = run_events(graph, models, job.classes, {steps, exclusive, jitter, job.flows, sharing},
                       graph.asynchronous ? &count : sink);
    result.staleness = count.of_updates();
  }
  result.classes = std::move(job.classes);
  result.ops = times->ops;
  result.rounds_left_out = times->rounds_left_out;
  result.step_ends = std::move(times->step_ends);
  result.breakdown = by_role(graph, result.classes, times->breakdown);
  const std::size_t last = result.step_ends.size() - 1,
                    period = graph.asynchronous ? last / 2 : std::min<std::size_t>(1, last);
  result.step_time = result.step_ends[last] - (period > 0 ? result.step_ends[last - period] : Time{});
  result.step_time.value /= std::max<std::int64_t>(1, static_cast<std::int64_t>(period));
  result.compute_model = compute->name();
  result.network_model = options.network_model == kFairShare || !job.flows.empty() ? kFairShare : network->name();
  return result;
}

Simulation simulate_at(double clock, const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                       const Options& options, plan::SpanSink* sink) {
  const std::int32_t period = plan::period(graph);
  if (period == 1) {
    return simulate_alike(clock, graph, cluster, options, sink);
  }
  const auto cycles = [&](std::int32_t steps, plan::SpanSink* spans) {
    return simulate_alike(clock, cycle_of(graph, steps), cluster, options, spans);
  };
  Simulation result, shorter;
  if (sink != nullptr) {
    PeriodSpans spans(graph, *sink);
    result = cycles(period, &spans);
    result.step_ends = spans.step_ends();
  } else {
    result = cycles(std::min(period, kShortCycle), nullptr);
  }
  const std::int64_t more = sink != nullptr ? 0 : std::max(0, period - kShortCycle);
  shorter = more > 0 ? cycles(kShortCycle - 1, nullptr) : result;
  result.step_time = Time{(result.step_time.value + more * (result.step_time - shorter.step_time).value) / period};
  for (std::size_t r = 0; r < result.breakdown.size(); ++r) {
    result.breakdown[r] = plan::mean_step(result.breakdown[r], shorter.breakdown[r], more, period);
  }
  return result;
}

bool is_power_limited(const Options& options, const topologies::Cluster& cluster) {
  return cluster.profile != nullptr && cluster.profile->roofline.sustained_clock.value < 1 &&
         options.compute_model != "measured" && (options.compute_model != "auto" || cluster.profile->measured.empty());
}

}  // namespace

Simulation simulate(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options,
                    plan::SpanSink* sink) {
  CHECK(options.steps >= 1, "{} steps", options.steps);
  CHECK(cluster.profile != nullptr || cluster.profile_path.empty(), "the profile {} was not loaded",
        cluster.profile_path);
  if (options.clock > 0 || !is_power_limited(options, cluster)) {
    return simulate_at(options.clock > 0 ? options.clock : 1, graph, cluster, options, sink);
  }
  const Simulation unlimited = simulate_at(1, graph, cluster, options, nullptr);
  const double clock = sustained_clock(cluster, graph, unlimited.breakdown);
  return clock < 1 || sink != nullptr ? simulate_at(clock, graph, cluster, options, sink) : unlimited;
}

}  // namespace foretrain::sim
