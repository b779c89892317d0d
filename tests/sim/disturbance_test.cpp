#include "sim/disturbance.h"

#include <gtest/gtest.h>

#include <cmath>

#include "plan/build.h"
#include "plan/validate.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

using Overrides = std::vector<std::string>;

plan::PlanGraph graph_of(Overrides overrides) {
  overrides.emplace_back("precision=fp32");
  return plan::build(testing::tiny_job(testing::kTinyGpt, overrides));
}

// Nodes of two devices, so that tensor groups stay inside and the rest goes over the fabric.
topologies::Cluster cluster_of(const plan::PlanGraph& g) {
  topologies::Cluster c = clockwork(2);
  c.nodes = (g.mesh.ranks() + 1) / 2;
  c.device.memory_bandwidth = Bandwidth{3e11};
  c.inter.bandwidth = Bandwidth{4e10};
  c.inter.latency = Time{12345};
  return c;
}

Simulation run(const plan::PlanGraph& g, const topologies::Cluster& c, bool ranks = true, bool time = true) {
  Options o;
  o.steps = 3;
  o.fold_ranks = ranks;
  o.fold_time = time;
  return simulate(g, c, o);
}

TEST(Disturbance, SpeedsMultiplyWhereRangesOverlap) {
  const std::vector<topologies::SpeedRange> ranges{{0, 3, 0.5}, {2, 2, 0.5}};
  EXPECT_EQ(topologies::speed_of(ranges, 0), 0.5);
  EXPECT_EQ(topologies::speed_of(ranges, 2), 0.25);
  EXPECT_EQ(topologies::speed_of(ranges, 4), 1);
  EXPECT_EQ(topologies::speed_of({}, 0), 1);
}

// A step of one rank is compute and nothing else.
TEST(Disturbance, HalfTheSpeedIsTwiceTheTime) {
  const plan::PlanGraph g = graph_of({});
  topologies::Cluster c = cluster_of(g);
  const Time alone = run(g, c).step_time;
  c.disturbance.devices = {{0, 0, 0.5}};
  EXPECT_EQ(run(g, c).step_time, Time{2 * alone.value});
}

// The others wait for the slow rank in every step's all-reduce.
TEST(Disturbance, OneSlowRankHoldsUpItsGroup) {
  const plan::PlanGraph g = graph_of({"dp=4"});
  topologies::Cluster c = cluster_of(g);
  const Simulation even = run(g, c);
  c.disturbance.devices = {{2, 2, 0.5}};
  const Simulation slow = run(g, c);
  EXPECT_EQ(slow.classes.size(), 2u);
  EXPECT_GT(slow.step_time, even.step_time);
  // As slow as if all were: nobody else has anything to do meanwhile.
  c.disturbance.devices = {{0, 3, 0.5}};
  const Simulation all = run(g, c);
  EXPECT_EQ(all.classes.size(), 1u);
  EXPECT_EQ(slow.step_time, all.step_time);
  EXPECT_LT(slow.breakdown[0].compute, all.breakdown[0].compute);
}

TEST(Disturbance, ADegradedNodeSlowsWhatLeavesIt) {
  const plan::PlanGraph g = graph_of({"pp=2", "dp=2"});
  topologies::Cluster c = cluster_of(g);
  const Simulation even = run(g, c);
  c.disturbance.nodes = {{1, 1, 0.25}};
  EXPECT_GT(run(g, c).step_time, even.step_time);
  c.disturbance.nodes = {{1, 1, 1.0}};
  EXPECT_EQ(run(g, c).step_ends, even.step_ends);
  // All ranks on one node: nothing leaves it.
  const plan::PlanGraph inside = graph_of({"tp=2"});
  c = cluster_of(inside);
  const Simulation tp = run(inside, c);
  c.disturbance.nodes = {{0, 0, 0.25}};
  EXPECT_EQ(run(inside, c).step_ends, tp.step_ends);
}

TEST(Disturbance, FoldedAsUnfolded) {
  for (const Overrides& s :
       {Overrides{},
        {"dp=4"},
        {"dp=4", "tp=2", "sequence_parallel=true"},
        {"pp=2", "dp=2"},
        {"pp=4", "schedule=gpipe"},
        {"dp=2", "tp=2", "pp=2", "zero=1", "overlap_grad_reduce=true", "recompute=full"},
        {"dp=4", "pp=2", "schedule=interleaved", "virtual_stages=2", "overlap_grad_reduce=true"}}) {
    const plan::PlanGraph g = graph_of(s);
    const std::int64_t last = g.mesh.ranks() - 1;
    for (int i = 0; i < 3; ++i) {
      topologies::Cluster c = cluster_of(g);
      c.disturbance.devices = {{i == 0 ? 0 : last, last, 0.7}};
      if (i == 2) {
        c.disturbance.nodes = {{0, 0, 0.3}};
      }
      const Simulation folded = run(g, c);
      for (const bool ranks : {true, false}) {
        for (const bool time : {true, false}) {
          const Simulation other = run(g, c, ranks, time);
          EXPECT_EQ(other.step_ends, folded.step_ends) << ::testing::PrintToString(s) << i << ranks << time;
          for (std::size_t r = 0; r < g.roles.size(); ++r) {
            EXPECT_EQ(other.breakdown[r].compute, folded.breakdown[r].compute);
            EXPECT_EQ(other.breakdown[r].exposed_dp, folded.breakdown[r].exposed_dp);
            EXPECT_EQ(other.breakdown[r].bubble, folded.breakdown[r].bubble) << ::testing::PrintToString(s);
          }
        }
      }
      EXPECT_EQ(plan::validate(g, timeline(g, c)), Overrides{}) << ::testing::PrintToString(s);
    }
  }
}

TEST(Jitter, IsNormalEnough) {
  const Jitter jitter(0.02, 7);
  constexpr std::int64_t kTime = 1'000'000'000;
  double sum = 0, squares = 0, largest = 0;
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) {
    const double z = (static_cast<double>(jitter(Time{kTime}, i % 100, i).value) / kTime - 1) / 0.02;
    sum += z;
    squares += z * z;
    largest = std::max(largest, std::abs(z));
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.02);  // six times 1/sqrt(n)
  EXPECT_NEAR(squares / kDraws, 1, 0.03);
  EXPECT_LT(largest, 3.4642);  // two thirds of the range over its deviation: sqrt(12)
  EXPECT_GT(largest, 2.5);
}

TEST(Jitter, FollowsItsSeedRankAndOp) {
  const Jitter jitter(0.1, 1);
  const Time t{1'000'000};
  EXPECT_EQ(jitter(t, 3, 5), Jitter(0.1, 1)(t, 3, 5));
  EXPECT_NE(jitter(t, 3, 5), Jitter(0.1, 2)(t, 3, 5));
  EXPECT_NE(jitter(t, 3, 5), jitter(t, 4, 5));
  EXPECT_NE(jitter(t, 3, 5), jitter(t, 3, 6));
  EXPECT_EQ(Jitter(0, 1)(t, 3, 5), t);
  EXPECT_EQ(jitter(Time{0}, 3, 5), Time{0});
  EXPECT_TRUE(Jitter().is_none());
  EXPECT_EQ(jitter(Time{1}, 0, 0), Time{1});  // never nothing
}

// Synchronous ranks wait for the slowest of each step.
TEST(Jitter, CostsWhatTheSlowestRankCosts) {
  Time alone, together;
  for (const int dp : {1, 8}) {
    const plan::PlanGraph g = graph_of({"dp=" + std::to_string(dp), "global_batch=8"});
    topologies::Cluster c = cluster_of(g);
    c.inter = c.intra = {Bandwidth{1e18}, Time{}};
    const Time even = run(g, c).step_time;
    c.disturbance.jitter = 0.2;
    const Simulation s = run(g, c);
    EXPECT_EQ(s.classes.size(), static_cast<std::size_t>(dp));
    EXPECT_FALSE(s.folded_time);
    EXPECT_EQ(s.step_ends, run(g, c, false, false).step_ends);
    EXPECT_EQ(plan::validate(g, timeline(g, c)), Overrides{});
    (dp == 1 ? alone : together) = s.step_time - even;
  }
  EXPECT_GT(together, Time{});
}

}  // namespace
}  // namespace foretrain::sim
