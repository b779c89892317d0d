#include "sim/simulator.h"

#include <algorithm>
#include <list>
#include <map>

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
#include "sim/remembered_network.h"
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

// A graph whose steps are alike, with what of its simulation no clock changes (sim/power_limit.h): its network, and its
// classes of ranks with their flows.
class AlikeSteps {
 public:
  // All of which must outlive it.
  AlikeSteps(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options, double clock)
      : graph_(graph),
        cluster_(cluster),
        options_(options),
        priced_(cluster),
        network_(network_of(cluster)),
        jitter_(cluster.disturbance.jitter, cluster.disturbance.seed) {
    const SharedLinks shared = shared_links(options.network_model, cluster, *network_);
    find_job(clock, shared);
    links_seen_ = job_.seen;
    if (shared == SharedLinks::where_cheap && job_.flows.empty() && !cluster.disturbance.nodes.empty()) {
      find_job(clock, SharedLinks::no);
    }
    for (RankClass& c : job_.classes) {
      c.model += first_model_.empty() ? 0 : first_model_[static_cast<std::size_t>(c.first)];
    }
    if (options.fold_time && !graph.asynchronous && !cluster.device.exclusive_streams && !cluster.this_machine &&
        jitter_.is_none() &&
        std::none_of(models_.begin(), models_.end(), [](const RoleModel& m) { return m.reads.has_value(); })) {
      folds_time_ = true;
      rounds_ = find_rounds(graph, options.steps);
      unlike_ = std::min(options.unlike, rounds_.size());
    }
  }

  Simulation at(double clock, plan::SpanSink* sink) {
    if (clock != clock_) {
      find_models(clock);
    }
    const bool exclusive = cluster_.device.exclusive_streams;
    topologies::SharingFigures figures = sharing_figures(cluster_);
    if (!options_.slows_communication) {
      figures.communication_speed.value = 1;
    }
    ShareSpeeds speeds(*compute_, figures);
    ShareSpeeds* sharing = options_.share_devices && communication_takes(models_) ? &speeds : nullptr;
    Simulation result;
    result.links_seen = links_seen_;
    std::optional<StepTimes> times;
    const bool folds = folds_time_ && sink == nullptr;
    if (folds) {
      times = folded(sharing, result.folded_time);
    }
    if (!times) {
      const int steps = graph_.asynchronous ? std::max(options_.steps, kAsynchronousSteps) : options_.steps;
      StalenessTee count(graph_, sink);
      times = run_events(graph_, models_, job_.classes, {steps, exclusive, jitter_, job_.flows, sharing},
                         graph_.asynchronous ? &count : sink);
      result.staleness = count.of_updates();
    }
    result.classes = job_.classes;
    result.ops = times->ops;
    result.walked = times->walked;
    result.rounds_left_out = times->rounds_left_out;
    result.unlike = unlike_;
    result.step_ends = std::move(times->step_ends);
    result.breakdown = by_role(graph_, result.classes, times->breakdown);
    const std::size_t last = result.step_ends.size() - 1,
                      period = graph_.asynchronous ? last / 2 : std::min<std::size_t>(1, last);
    result.step_time = result.step_ends[last] - (period > 0 ? result.step_ends[last - period] : Time{});
    result.step_time.value /= std::max<std::int64_t>(1, static_cast<std::int64_t>(period));
    result.compute_model = compute_->name();
    result.network_model = options_.network_model == kFairShare || !job_.flows.empty() ? kFairShare : network_->name();
    return result;
  }

 private:
  std::unique_ptr<NetworkModel> network_of(const topologies::Cluster& c) const {
    return remembered_network(scaled_latency(
        make_network_model(options_.network_model, c, options_.collectives, graph_.mesh.ranks()), options_.latency));
  }

  // Nothing where every op has to be an event. `walked`: none was one.
  std::optional<StepTimes> folded(ShareSpeeds* sharing, bool& walked) {
    for (; may_walk_ && unlike_ <= rounds_.size(); ++unlike_) {
      const Rounds* const rounds = unlike_ < rounds_.size() ? &rounds_[unlike_] : nullptr;
      FoldedSteps some =
          run_folded(graph_, models_, job_.classes, job_.flows, options_.steps, rounds, sharing, options_.most_walked);
      if (some.times) {
        walked = true;
        return std::move(some.times);
      }
      may_walk_ = some.not_alike;
    }
    std::optional<StepTimes> times;
    if (!rounds_.empty() && may_leave_out_) {
      times = run_rounds(graph_, models_, job_.classes, rounds_.front(),
                         {options_.steps, false, jitter_, job_.flows, sharing});
      may_leave_out_ = times.has_value();
    }
    return times;
  }

  // Slow nodes are slow links where links are seen, else slow meetings.
  void find_job(double clock, SharedLinks shared) {
    priced_.disturbance.nodes =
        shared != SharedLinks::no ? decltype(priced_.disturbance.nodes){} : cluster_.disturbance.nodes;
    find_models(clock);
    const bool fold_ranks = options_.fold_ranks && jitter_.is_none() && !graph_.asynchronous;
    job_ = find_classes(graph_, models_, cluster_, first_model_, shared, fold_ranks);
  }

  void find_models(double clock) {
    clock_ = clock;
    compute_ = make_compute_model(options_.compute_model, cluster_, clock);
    models_ = model_roles(graph_, priced_, *compute_, *network_);
    first_model_ = add_disturbed_models(
        graph_, priced_, *compute_, [this](const topologies::Cluster& c) { return network_of(c); }, models_);
  }

  const plan::PlanGraph& graph_;
  const topologies::Cluster& cluster_;
  const Options& options_;
  topologies::Cluster priced_;
  std::unique_ptr<NetworkModel> network_;
  Jitter jitter_;
  double clock_ = 0;
  std::unique_ptr<ComputeModel> compute_;  // at this clock
  std::vector<RoleModel> models_;          // of it
  std::vector<std::int32_t> first_model_;
  JobClasses job_;
  LinksSeen links_seen_ = LinksSeen::as_they_are;
  bool folds_time_ = false;  // where no spans are asked for
  std::vector<Rounds> rounds_;
  // What did not work out at one clock is not tried at another: events find the same.
  bool may_walk_ = true, may_leave_out_ = true;
  std::size_t unlike_ = 0;  // so many of rounds_ are not alike in walks
};

bool is_power_limited(const Options& options, const topologies::Cluster& cluster) {
  return cluster.profile != nullptr && cluster.profile->roofline.sustained_clock.value < 1 &&
         options.compute_model != "measured" && (options.compute_model != "auto" || cluster.profile->measured.empty());
}

}  // namespace

// The same of any graph.
struct Simulator::Steps {
 public:
  Steps(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options)
      : graph_(graph), cluster_(cluster), options_(options), period_(plan::period(graph)) {}

  Simulation at(double clock, plan::SpanSink* sink) {
    if (period_ == 1) {
      return cycles(1, clock, sink);
    }
    Simulation result, shorter;
    if (sink != nullptr) {
      PeriodSpans spans(graph_, *sink);
      result = cycles(period_, clock, &spans);
      result.step_ends = spans.step_ends();
    } else {
      result = cycles(std::min(period_, kShortCycle), clock, nullptr);
    }
    const std::int64_t more = sink != nullptr ? 0 : std::max(0, period_ - kShortCycle);
    shorter = more > 0 ? cycles(kShortCycle - 1, clock, nullptr) : result;
    result.step_time = Time{(result.step_time.value + more * (result.step_time - shorter.step_time).value) / period_};
    for (std::size_t r = 0; r < result.breakdown.size(); ++r) {
      result.breakdown[r] = plan::mean_step(result.breakdown[r], shorter.breakdown[r], more, period_);
    }
    return result;
  }

 private:
  Simulation cycles(std::int32_t steps, double clock, plan::SpanSink* sink) {
    auto found = by_steps_.find(steps);
    if (found == by_steps_.end()) {
      const plan::PlanGraph& cycle = period_ == 1 ? graph_ : graphs_.emplace_back(cycle_of(graph_, steps));
      found = by_steps_.try_emplace(steps, cycle, cluster_, options_, clock).first;
    }
    return found->second.at(clock, sink);
  }

  const plan::PlanGraph& graph_;
  const topologies::Cluster& cluster_;
  const Options& options_;
  const std::int32_t period_;
  std::list<plan::PlanGraph> graphs_;            // of cycles
  std::map<std::int32_t, AlikeSteps> by_steps_;  // of a cycle
};

Simulator::Simulator(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options)
    : graph_(graph), cluster_(cluster), options_(options), steps_(std::make_unique<Steps>(graph, cluster, options)) {
  CHECK(options.steps >= 1, "{} steps", options.steps);
  CHECK(cluster.profile != nullptr || cluster.profile_path.empty(), "the profile {} was not loaded",
        cluster.profile_path);
}

Simulator::~Simulator() = default;

Simulation Simulator::at(double clock, plan::SpanSink* sink) {
  if (clock > 0 || !is_power_limited(options_, cluster_)) {
    return steps_->at(clock > 0 ? clock : 1, sink);
  }
  const Simulation unlimited = steps_->at(1, nullptr);
  const double sustained = sustained_clock(cluster_, graph_, unlimited.breakdown);
  return sustained < 1 || sink != nullptr ? steps_->at(sustained, sink) : unlimited;
}

Simulation simulate(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options,
                    plan::SpanSink* sink) {
  return Simulator(graph, cluster, options).at(options.clock, sink);
}

}  // namespace foretrain::sim
