// Servers that wait for nobody, simulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "plan/build.h"
#include "plan/validate.h"
#include "sim/simulator.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

using Overrides = std::vector<std::string>;

class Spans : public plan::SpanSink {
 public:
  void span(const plan::Span& s) override { timeline.spans.push_back(s); }
  plan::Timeline timeline;
};

Simulation simulated(Overrides overrides, double slow_down = 1) {
  overrides.insert(overrides.end(), {"precision=bf16", "data_parallel=parameter_server"});
  const plan::Job job = testing::tiny_job(testing::kTinyLlama, overrides);
  const plan::PlanGraph g = plan::build(job);
  topologies::Cluster c = clockwork(1);
  c.nodes = job.strategy.ranks();
  c.device.memory_bandwidth = Bandwidth{3e11};
  c.device.peak[Dtype::bf16] = FlopRate{7e12};
  c.inter.bandwidth = Bandwidth{4e12};
  if (slow_down != 1) {
    c.disturbance.devices = {{0, 0, 1 / slow_down}};
  }
  Spans spans;
  Simulation s = simulate(g, c, {}, &spans);
  spans.timeline.step_ends = s.step_ends;
  std::stable_sort(spans.timeline.spans.begin(), spans.timeline.spans.end(),
                   [](const plan::Span& a, const plan::Span& b) {
                     return std::tie(a.rank, a.step, a.op) < std::tie(b.rank, b.step, b.op);
                   });
  EXPECT_EQ(plan::validate(g, spans.timeline), Overrides{});
  return s;
}

constexpr std::int64_t kSteps = kAsynchronousSteps;

// Four workers alike are taken in turn: the first round is 0 to 3 updates late, from then on each has missed the three
// of the others.
TEST(Asynchronous, WorkersAlikeMissEachOthersUpdates) {
  const Simulation s = simulated({"dp=4", "staleness=\"unbounded\""});
  EXPECT_EQ(s.staleness, (plan::Staleness{{0, 1}, {1, 1}, {2, 1}, {3, 4 * kSteps - 3}}));
}

// In step: of each round one is fresh, one has missed one update, and so on.
TEST(Asynchronous, InStepEachRoundBeginsFresh) {
  const Simulation s = simulated({"dp=4", "staleness=0"});
  EXPECT_EQ(s.staleness, (plan::Staleness{{0, kSteps}, {1, kSteps}, {2, kSteps}, {3, kSteps}}));
}

// Who comes when is as it was.
TEST(Asynchronous, AServerWaitsForItsReplicaInEveryTurn) {
  const Simulation without = simulated({"dp=4", "staleness=0"});
  const Simulation with = simulated({"dp=4", "staleness=0", "server_replicas=1"});
  EXPECT_GT(with.step_time, without.step_time);
  EXPECT_EQ(with.staleness, without.staleness);
}

// A worker that takes ten times as long (the server, too, takes its time): without a bound the others do not wait for
// it; with one they soon do.
TEST(Asynchronous, ASlowWorkerHoldsBackWhomTheBoundHolds) {
  const Simulation even = simulated({"dp=4", "staleness=0"}), free = simulated({"dp=4", "staleness=\"unbounded\""}, 10);
  const Simulation bound = simulated({"dp=4", "staleness=2"}, 10);
  EXPECT_GT(bound.step_time.value, 2 * even.step_time.value);
  EXPECT_GT(free.staleness.rbegin()->first, bound.staleness.rbegin()->first);
  EXPECT_LE(bound.staleness.rbegin()->first, 3 * (2 * 2 + 1));
}

TEST(Asynchronous, OnCoresThatAllShare) {
  const plan::PlanGraph g =
      plan::build(testing::tiny_job(testing::kTinyGpt, {"dp=4", "data_parallel=parameter_server", "servers=2",
                                                        "staleness=1", "server_order=random"}));
  topologies::Cluster c = clockwork(1);
  c.nodes = 6;
  c.this_machine = true;
  c.device.exclusive_streams = true;
  c.device.peak[Dtype::fp64] = FlopRate{1e12};
  const Simulation s = simulate(g, c, {});
  EXPECT_GT(s.step_time.value, 0);
  EXPECT_EQ(s.staleness.begin()->first, 0);
}

}  // namespace
}  // namespace foretrain::sim
