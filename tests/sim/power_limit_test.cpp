#include "sim/power_limit.h"

#include <gtest/gtest.h>

#include "sim/compute_model.h"
#include "tests/sim/tiny_graph.h"

namespace foretrain::sim {
namespace {

topologies::Cluster sustained(double clock, int devices = 1) {
  topologies::Cluster c = clockwork(devices);
  topologies::Profile p = *c.profile;
  p.roofline.sustained_clock = {clock, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

plan::Breakdown parts(std::int64_t compute, std::int64_t bubble, std::int64_t tp) {
  plan::Breakdown b;
  b.compute.value = compute;
  b.bubble.value = bubble;
  b.exposed_tp.value = tp;
  return b;
}

double clock_of(double at_work, std::vector<plan::Breakdown> by_role) {
  const auto stage_count = static_cast<int>(by_role.size());
  return sustained_clock(sustained(at_work, stage_count), stages(stage_count), by_role);
}

TEST(PowerLimit, ClockOfTheShareThatComputes) {
  EXPECT_EQ(clock_of(1, {parts(100, 0, 0)}), 1);
  EXPECT_EQ(clock_of(0.9, {parts(0, 0, 0)}), 1);               // no step
  EXPECT_EQ(clock_of(0.9, {parts(0, 0, 100)}), 1);             // 0.2^-0.4 is 1.90
  EXPECT_EQ(clock_of(0.9, {parts(100, 0, 0)}), 922 / 1024.0);  // 0.9 x 1024 = 921.6
  // Half of it bubbles, which grow as compute does: 0.8 (0.5 + 0.2 / 2)^-0.4 = 0.8 x 1.22670 = 0.98136.
  EXPECT_EQ(clock_of(0.8, {parts(50, 50, 0)}), 1005 / 1024.0);
  // Communication does not grow: u = 1 / (1 + clock), which 0.97854 solves: u 0.50542, 0.60434^-0.4 = 1.22317.
  EXPECT_EQ(clock_of(0.8, {parts(50, 0, 50)}), 1002 / 1024.0);
  EXPECT_EQ(clock_of(0.9, {parts(50, 50, 0)}), 1);  // 1.104
}

TEST(PowerLimit, RanksCountTogetherAndRecomputeIsCompute) {
  EXPECT_EQ(clock_of(0.8, {parts(100, 0, 0), parts(0, 100, 0)}), clock_of(0.8, {parts(50, 50, 0)}));
  plan::Breakdown again = parts(30, 50, 0);
  again.recompute.value = 20;
  EXPECT_EQ(clock_of(0.8, {again}), clock_of(0.8, {parts(50, 50, 0)}));
}

// One product of 2 x 1000^3 flops at 1 TFLOP/s, alone: 2 ms at the full clock, 2 ms x 1024 / 922 at 0.9. A pass over
// memory takes as long at any clock, and so does everything where a device has no such figure.
TEST(PowerLimit, SlowsProductsOfASimulation) {
  plan::PlanGraph g = stages(1);
  plan::Op product;
  product.work = plan::Matmul{1000, 1000, 1000, false, true, false, false, Dtype::fp32, Dtype::fp32};
  append(g.roles[0], {product});
  const auto seconds_with = [&](double clock) { return seconds(simulate(g, sustained(clock), {}).step_time); };
  EXPECT_NEAR(seconds_with(1), 2e-3, 1e-12);
  EXPECT_NEAR(seconds_with(0.9), 2e-3 * 1024 / 922, 1e-11);
  plan::PlanGraph pass = stages(1);
  append(pass.roles[0], {work(1000)});
  EXPECT_EQ(simulate(pass, sustained(0.9), {}).step_time, simulate(pass, sustained(1), {}).step_time);
  // Spans are those of the slower clock alone, and of as many ops.
  Recorder spans;
  const Simulation slow = simulate(g, sustained(0.9), {}, &spans);
  EXPECT_EQ(spans.timeline.spans.size(), 2u);  // two steps
  EXPECT_EQ(spans.timeline.spans.back().end, slow.step_ends.back());
}

// 2 ms in every step and 2 ms more in one of four, at whatever clock: whether it is the limit's or given, and for the
// short cycle as for all steps.
TEST(PowerLimit, MayBeGivenAndHoldsForStepsThatAreNotAlike) {
  plan::PlanGraph g = stages(1);
  plan::Op product;
  product.work = plan::Matmul{1000, 1000, 1000, false, true, false, false, Dtype::fp32, Dtype::fp32};
  append(g.roles[0], {product});
  append(g.roles[0], {product});
  g.roles[0].program.body.back().every = 4;
  Options options;
  EXPECT_NEAR(seconds(simulate(g, sustained(0.9), options).step_time), 2.5e-3 * 1024 / 922, 1e-11);
  Recorder spans;
  EXPECT_NEAR(seconds(simulate(g, sustained(0.9), options, &spans).step_time), 2.5e-3 * 1024 / 922, 1e-11);
  options.clock = 0.5;
  EXPECT_NEAR(seconds(simulate(g, sustained(0.9), options).step_time), 5e-3, 1e-11);
  EXPECT_NEAR(seconds(simulate(g, sustained(1), options).step_time), 5e-3, 1e-11);
}

}  // namespace
}  // namespace foretrain::sim
