// Steps that wait for storage, by hand: one rank, of which each microbatch computes 100 ps. A byte is read in 1 ps.
#include <gtest/gtest.h>

#include "tests/sim/tiny_graph.h"

namespace foretrain::sim {
namespace {

plan::PlanGraph reading(std::int64_t bytes, std::int64_t prefetch, std::int64_t loaders, int microbatches) {
  plan::PlanGraph g = stages(1);
  plan::Role& role = g.roles[0];
  role.streams.push_back({"host", plan::StreamKind::host, plan::Axis::dp});
  const auto host = static_cast<plan::StreamId>(role.streams.size() - 1);
  role.events.push_back({"free", plan::Replicas::once});
  for (int m = 0; m < microbatches; ++m) {
    plan::Host load;
    load.bytes = bytes;
    load.prefetch = prefetch;
    load.loaders = loaders;
    plan::Op op;
    op.work = load;
    op.stream = host;
    op.waits = {0};
    plan::Op compute = work(100, plan::kCompute, {0});
    compute.records = {0};
    append(role, {op, compute}, m);
  }
  return g;
}

topologies::Cluster with_storage(bool exclusive, std::int64_t latency = 0) {
  topologies::Cluster c = clockwork(1, exclusive);
  c.storage = {Bandwidth{1e12}, Time{latency}, false};
  return c;
}

Simulation simulated(const plan::PlanGraph& g, const topologies::Cluster& c) {
  EXPECT_EQ(plan::validate(g, timeline(g, c)), std::vector<std::string>{});
  return simulate(g, c, {});
}

// Two microbatches of a step, each read once the one before is done with: 2 (60 + 100).
TEST(Reading, WithoutPrefetchEachMicrobatchWaits) {
  for (const bool exclusive : {false, true}) {
    const Simulation s = simulated(reading(60, 0, 1, 2), with_storage(exclusive));
    EXPECT_EQ(s.step_time, Time{320});
    EXPECT_EQ(s.breakdown[0].host, Time{120});
    EXPECT_EQ(s.breakdown[0].compute, Time{200});
  }
}

// Behind the compute of the one before; and where reading takes longer, at its pace: 2 x 150, on a core, too.
TEST(Reading, AheadItTakesWhatItTakesLonger) {
  for (const bool exclusive : {false, true}) {
    EXPECT_EQ(simulated(reading(60, 1, 1, 2), with_storage(exclusive)).step_time, Time{200});
    const Simulation bound = simulated(reading(150, 1, 1, 2), with_storage(exclusive));
    EXPECT_EQ(bound.step_time, Time{300});
    EXPECT_EQ(bound.breakdown[0].host, Time{100});
  }
}

// 20 of a read are the storage's, 230 latency. One thread takes 250 for each; two 125: of two microbatches 250
// together; three, asked for as soon as one is taken, no longer than compute.
TEST(Reading, ThreadsHideLatency) {
  EXPECT_EQ(simulated(reading(20, 2, 1, 2), with_storage(false, 230)).step_time, Time{500});
  EXPECT_EQ(simulated(reading(20, 2, 2, 2), with_storage(false, 230)).step_time, Time{250});
  EXPECT_EQ(simulated(reading(20, 3, 3, 2), with_storage(false, 230)).step_time, Time{200});
}

TEST(Reading, NoStorageTakesNoTime) {
  EXPECT_EQ(simulated(reading(60, 0, 1, 2), clockwork(1)).step_time, Time{200});
}

// A slow core reads no slower.
TEST(Reading, IsNoWorkOfTheDevice) {
  topologies::Cluster c = with_storage(true);
  c.disturbance.devices = {{0, 0, 0.5}};
  EXPECT_EQ(simulated(reading(60, 0, 1, 2), c).step_time, Time{2 * (60 + 200)});
}

}  // namespace
}  // namespace foretrain::sim
