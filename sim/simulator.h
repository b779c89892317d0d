// simulate(): walks a plan graph over a model of the cluster. Steps that are not alike: sim/period.h. Integer
// picoseconds, one result on any machine; a simulation is a value with no hidden state.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plan/breakdown.h"
#include "plan/channel.h"
#include "plan/graph.h"
#include "plan/timeline.h"
#include "sim/job_classes.h"
#include "sim/network.h"
#include "sim/rank_classes.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

struct Options {
  std::string compute_model = "auto";  // "roofline", "measured"; auto: measured where the profile has tables
  // "alpha_beta", "fair_share", "measured"; auto: measured where the profile has tables, else fair_share, which is
  // alpha_beta where no link can hold anything back.
  std::string network_model = "auto";
  std::vector<CollectiveOverride> collectives;  // algorithms that are not the library's choice (sim/network.h)
  double clock = 0;                             // 0: what the power limit leaves (sim/power_limit.h)
  double latency = 1;                           // times as long for nothing on the network (sim/scaled_latency.h)
  bool share_devices = true;                    // compute and communication slow each other (sim/device_share.h)
  bool slows_communication = true;              // or compute alone is slowed
  // Or whole periods of the graph: the last two's ends give the steady period; where servers wait for nobody at least
  // kAsynchronousSteps, the mean over the second half of them.
  int steps = 2;
  // Folding never changes a result. Over ranks: those that do the same at the same time are simulated once. Over time:
  // repeated blocks and rounds of microbatches are timed once; else every op is an event (always so with a sink).
  bool fold_ranks = true;
  bool fold_time = true;
  // Where links are shared, folding over time may walk so much of the ops, then they are events. An event costs about
  // four times as much as an op that is walked; with 0.3 to 0.75 plans drawn at random took the least time.
  double most_walked = 0.5;
  std::size_t unlike = 0;  // as another simulation of the graph found it; no result changes
};

inline constexpr int kAsynchronousSteps = 16;

struct Simulation {
  Time step_time;                            // steady period between steps; the mean over steps that are not alike
  plan::Staleness staleness;                 // of asynchronous updates
  std::vector<Time> step_ends;               // of steps, or of the cycles that stand for them (without a sink)
  std::vector<plan::Breakdown> breakdown;    // by role, of the last step, or the mean
  std::string compute_model, network_model;  // as chosen
  LinksSeen links_seen = LinksSeen::as_they_are;
  bool folded_time = false;
  std::int64_t ops = 0;              // that were events; 0 when time was folded
  std::int64_t walked = 0;           // when it was: ops that were not part of a call like another
  std::int32_t rounds_left_out = 0;  // of each step, as they are like others (sim/rounds.h)
  std::size_t unlike = 0;            // so many ways to leave out rounds were tried in vain
  std::vector<RankClass> classes;    // of ranks that were simulated once
};

// One graph at several clocks: what no clock changes is found out once. All must outlive it; Options::clock does not
// matter. Throws as simulate() does.
class Simulator {
 public:
  Simulator(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options);
  ~Simulator();
  // 0: at what the power limit leaves.
  Simulation at(double clock, plan::SpanSink* sink = nullptr);

 private:
  struct Steps;
  const plan::PlanGraph& graph_;
  const topologies::Cluster& cluster_;
  const Options& options_;
  std::unique_ptr<Steps> steps_;
};

// At Options::clock. Spans go to `sink` (may be null): one per rank class, its first rank standing for all; in order of
// completion, per class in program order within an instant.
// Throws InputError for an unknown model name or a device without the op's dtype, InternalError for a graph that
// deadlocks (validate first).
Simulation simulate(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options,
                    plan::SpanSink* sink = nullptr);

}  // namespace foretrain::sim
