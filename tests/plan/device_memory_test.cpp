// The three totals and the verdict between them.
#include "plan/device_memory.h"

#include <gtest/gtest.h>

#include "plan/build.h"
#include "tests/support/tiny_jobs.h"
#include "topologies/profile.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::kTinyGpt;
using foretrain::testing::tiny_job;

struct Case {
  Job job;
  PlanGraph graph;
  explicit Case(const std::vector<std::string>& overrides) : job(tiny_job(kTinyGpt, overrides)), graph(build(job)) {}
  MemoryFit fit() const { return memory_fit(job, graph); }
};

TEST(DeviceMemory, RanksOfThisMachineShareIt) {
  Case c({"dp=2", "pp=2"});
  Bytes sum;
  for (const Role& role : c.graph.roles) {
    sum += Bytes{2 * role.memory.arena.value};  // two replicas of each of two stages
  }
  c.job.cluster.shared_memory = sum;
  const MemoryFit fit = c.fit();
  EXPECT_EQ(fit.demand, sum);
  EXPECT_EQ(fit.verdict, Verdict::fits);
  for (std::size_t i = 0; i < c.graph.roles.size(); ++i) {
    const Bytes arena = c.graph.roles[i].memory.arena;  // exactly what the executor allocates
    EXPECT_EQ(fit.roles[i].held.allocated, arena);
    EXPECT_EQ(fit.roles[i].held.reserved, arena);
    EXPECT_EQ(fit.roles[i].device_visible(), arena);
  }
  c.job.cluster.shared_memory = sum - Bytes{1};
  EXPECT_EQ(c.fit().verdict, Verdict::oom);
  EXPECT_EQ(c.fit().missing(), Bytes{1});
}

// The bound counts no temporaries and no fragments: it is below the replay's tensors, and on this machine it is exact.
TEST(DeviceMemory, LeastDemandIsNeverAboveTheDemand) {
  for (const std::vector<std::string>& overrides : {std::vector<std::string>{"dp=2"},
                                                    {"pp=2"},
                                                    {"pp=2", "schedule=zb_h1"},
                                                    {"pp=2", "schedule=zb_h2"},
                                                    {"pp=2", "schedule=zb_v", "virtual_stages=2"},
                                                    {"pp=2", "schedule=dualpipe_v", "virtual_stages=2"},
                                                    {"pp=2", "schedule=gpipe"},
                                                    {"pp=2", "virtual_stages=2"},
                                                    {"tp=2", "recompute=full"},
                                                    {"dp=2", "zero=3"}}) {
    Case c(overrides);
    EXPECT_EQ(least_demand(c.job, c.graph), c.fit().demand);
    c.job.cluster.this_machine = false;
    c.job.cluster.device.memory = parse_bytes("80 GB");
    const Bytes least = least_demand(c.job, c.graph), demand = c.fit().demand;
    EXPECT_LE(least, demand);
    EXPECT_GT(least, c.fit().device().runtime.total());
    for (const Role& role : c.graph.roles) {
      EXPECT_LE(least_held(role), held_memory(role).allocated);
      EXPECT_GT(least_held(role), Bytes{role.memory.persistent.value / 2});
    }
  }
}

// One byte less than everything is tight or too little; less than the tensors themselves is too little.
TEST(DeviceMemory, VerdictOfDevices) {
  Case c({"pp=2"});
  c.job.cluster.this_machine = false;
  c.job.cluster.device.memory = parse_bytes("80 GB");
  Bytes visible, tensors;
  for (const DeviceMemory& m : c.fit().roles) {
    EXPECT_EQ(m.device_visible(), m.held.reserved + m.runtime.context + m.runtime.communicators);
    EXPECT_EQ(m.needed(), m.device_visible());  // there is room
    visible = std::max(visible, m.device_visible());
    tensors = std::max(tensors, m.held.allocated + m.runtime.context + m.runtime.communicators);
  }
  ASSERT_LT(tensors, visible);
  const auto with = [&](Bytes memory) {
    c.job.cluster.device.memory = memory;
    return c.fit();
  };
  EXPECT_EQ(with(visible).verdict, Verdict::fits);
  EXPECT_NE(with(visible - Bytes{1}).verdict, Verdict::fits);
  const MemoryFit too_small = with(tensors - Bytes{1});
  EXPECT_EQ(too_small.verdict, Verdict::oom);
  EXPECT_GE(too_small.missing(), Bytes{1});
  // What it says it needs is enough, and no verdict gets worse with more memory.
  EXPECT_TRUE(with(too_small.demand).fits());
  int before = 2;
  for (std::int64_t more = 0; more <= (visible - tensors).value; more += 1 << 20) {
    const int verdict = static_cast<int>(with(tensors + Bytes{more}).verdict);
    EXPECT_LE(verdict, before);
    before = verdict;
  }
}

// 24 channels with a ring's and two of a tree's connections are the 688 MiB that were measured for more than two A100s.
TEST(DeviceMemory, Communicators) {
  constexpr std::int64_t kMiB = 1 << 20;
  Case one({}), four({"tp=4"}), two({"tp=2"});
  for (Case* c : {&one, &four, &two}) {
    c->job = tiny_job(kTinyGpt, {});
    c->job.cluster.this_machine = false;
    c->job.cluster.devices_per_node = 8;
  }
  const auto profile = std::make_shared<topologies::Profile>();
  profile->has_sharing = true;
  profile->sharing.node_blocks["all_reduce"] = {24, "test"};
  const auto of = [&](Case& c) {
    c.job.cluster.profile = profile;
    return runtime_memory(c.graph, c.graph.roles.front(), c.job.cluster);
  };
  EXPECT_EQ(of(one).communicators, Bytes{});
  EXPECT_EQ(of(one).context, Bytes{300'000'000});
  // tp, and the group of all that share the gradient's norm: the same ranks, another communicator.
  EXPECT_NEAR(static_cast<double>(of(four).communicators.value), 2.0 * 688 * kMiB, 4.0 * kMiB);
  EXPECT_LT(of(two).communicators, of(four).communicators);
}

}  // namespace
}  // namespace foretrain::plan
