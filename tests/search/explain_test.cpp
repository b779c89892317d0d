// Sensitivity, changes of a plan, and sweeps.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "plan/build.h"
#include "plan/device_memory.h"
#include "search/plan_changes.h"
#include "search/sensitivity.h"
#include "search/sweep.h"
#include "search/watch.h"
#include "tests/support/message_of.h"
#include "tests/support/tiny_graphs.h"
#include "tests/support/tiny_jobs.h"
#include "topologies/profile.h"

namespace foretrain::search {
namespace {

using testing::op;
using testing::whole;

// Heads that tp 2 does not divide.
plan::Job job_of(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all{"workload.model.heads=3", "strategy.dp=4", "strategy.overlap_grad_reduce=true"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  plan::Job job = testing::tiny_job(testing::kTinyOnH100, all);
  topologies::load_profile_of(job.cluster);
  return job;
}

const LoadJob kLoad = [](const std::vector<std::string>& overrides) { return job_of(overrides); };

// Nothing shared, nothing measured.
sim::Options plain() {
  sim::Options o;
  o.compute_model = "roofline";
  o.network_model = "alpha_beta";
  o.share_devices = false;
  return o;
}

// One op on each rank of a group along tp.
plan::PlanGraph one_op(plan::Work work, int ranks) {
  plan::PlanGraph g = testing::tensor_parallel_graph();
  g.mesh.extent = {1, 1, 1, ranks};
  const bool meets = std::holds_alternative<plan::Collective>(work);
  g.roles[0].blocks[0].ops = {op(std::move(work), static_cast<plan::StreamId>(meets), {whole(2, 16)}, {whole(2, 16)})};
  return g;
}

double gain(const plan::Job& job, const plan::PlanGraph& graph, Resource resource) {
  const sim::Options options = plain();
  const Time base = sim::simulate(graph, job.cluster, options).step_time;
  const std::vector<ResourceGain> all = sensitivity(job, graph, options, base);
  const ResourceGain& g = all[static_cast<std::size_t>(resource)];
  EXPECT_EQ(g.name, name(resource));
  EXPECT_EQ(g.why.empty(), g.step_time != base);
  return g.gain;
}

// What takes t with a rate of r takes t/1.1 with 1.1 r: 1 - 1/1.1 = 1/11 less.
TEST(Sensitivity, OfWhatOneResourceLimitsIsArithmetic) {
  const plan::Job job = job_of();
  plan::Matmul matmul;
  matmul.m = matmul.n = matmul.k = 16384;
  matmul.in = matmul.out = Dtype::bf16;
  const plan::PlanGraph product = one_op(matmul, 1);
  EXPECT_NEAR(gain(job, product, Resource::peak_flops), 1.0 / 11, 1e-3);
  EXPECT_EQ(gain(job, product, Resource::memory_bandwidth), 0);
  EXPECT_EQ(gain(job, product, Resource::network_bandwidth), 0);
  const plan::PlanGraph fill = one_op(plan::Fill{1 << 30, Dtype::fp32}, 1);
  EXPECT_NEAR(gain(job, fill, Resource::memory_bandwidth), 1.0 / 11, 1e-3);
  EXPECT_EQ(gain(job, fill, Resource::peak_flops), 0);
}

// A GiB among the devices of a node: its links gain, up to 1/11; latencies are microseconds of its milliseconds. Over
// two nodes, where the network holds it back no more than the nodes' links do, it gains less than all of the tenth.
TEST(Sensitivity, OfCommunicationIsOfItsLinks) {
  const plan::PlanGraph inside = one_op(testing::all_reduce(1 << 28, 0, 0), 4);
  EXPECT_GT(gain(job_of(), inside, Resource::node_bandwidth), 0.08);
  EXPECT_LE(gain(job_of(), inside, Resource::node_bandwidth), 1.0 / 11);
  EXPECT_EQ(gain(job_of(), inside, Resource::network_bandwidth), 0);
  EXPECT_EQ(gain(job_of(), inside, Resource::peak_flops), 0);
  const plan::Job two = job_of({"cluster.nodes=2", "strategy.dp=8"});
  const plan::PlanGraph across = one_op(testing::all_reduce(1 << 28, 0, 0), 8);
  EXPECT_GT(gain(two, across, Resource::network_bandwidth), 0);
  EXPECT_LT(gain(two, across, Resource::network_bandwidth), 1.0 / 11);
}

TEST(Sensitivity, MoreOfAResourceIsNeverSlowerAndMemoryNeverFaster) {
  for (const std::vector<std::string>& plan :
       std::vector<std::vector<std::string>>{{}, {"strategy.dp=2", "strategy.pp=2"}, {"strategy.zero=3"}}) {
    const plan::Job job = job_of(plan);
    const plan::PlanGraph graph = plan::build(job);
    for (const Resource r : kResources) {
      EXPECT_GE(gain(job, graph, r), 0) << name(r);
    }
    EXPECT_EQ(gain(job, graph, Resource::memory_size), 0);
  }
}

// dp 4 alone, all else as it is by default: ZeRO's other stages, larger microbatches (1 has no half), and half of dp's
// ranks along tp or pp (no cp where there is none).
TEST(PlanChanges, AreOneStepAway) {
  std::vector<std::string> what;
  for (const PlanChange& c : plan_changes(job_of())) {
    what.push_back(c.what);
  }
  EXPECT_EQ(what, (std::vector<std::string>{"ZeRO 1", "ZeRO 2", "ZeRO 3", "microbatches twice as large",
                                            "dp 2 and tp 2", "dp 2 and pp 2"}));
}

// Ranks along cp are replicas of the parameters, too.
TEST(PlanChanges, ShareOptimizersAlongContexts) {
  std::vector<std::string> what;
  for (const PlanChange& c :
       plan_changes(job_of({"strategy.dp=1", "strategy.cp=4", "strategy.overlap_grad_reduce=false"}))) {
    what.push_back(c.what);
  }
  for (const char* change : {"ZeRO 1", "gradients reduced behind the backward"}) {
    EXPECT_NE(std::find(what.begin(), what.end(), change), what.end()) << change;
  }
}

// Three heads leave no halves for tp 2: left out. Each of the others takes what its own simulation says.
TEST(PlanChanges, AreSimulatedAndInOrder) {
  const plan::Job job = job_of();
  const Time base = sim::simulate(plan::build(job), job.cluster, {}).step_time;
  const std::vector<ChangedPlan> plans = changed_plans(job, kLoad, {}, base);
  ASSERT_EQ(plans.size(), 5u);
  for (const ChangedPlan& p : plans) {
    EXPECT_NE(p.change.what, "dp 2 and tp 2");
    const plan::Job changed = job_of(p.change.overrides);
    const plan::PlanGraph graph = plan::build(changed);
    EXPECT_EQ(p.step_time, sim::simulate(graph, changed.cluster, {}).step_time) << p.change.what;
    EXPECT_EQ(p.demand, plan::memory_fit(changed, graph).demand);
    EXPECT_NEAR(p.gain, 1 - seconds(p.step_time) / seconds(base), 1e-12);
    EXPECT_TRUE(p.fits && p.fits_with_more);
  }
  EXPECT_TRUE(std::is_sorted(plans.begin(), plans.end(),
                             [](const ChangedPlan& a, const ChangedPlan& b) { return a.step_time < b.step_time; }));
}

// An interruption that is there before the work, or comes with the first piece done.
TEST(Watch, TellsEachPieceAndLeavesOutThoseNotBegun) {
  std::atomic<bool> stop{false};
  std::vector<std::size_t> told;
  Watch watch{[&](std::size_t done, std::size_t count) {
                EXPECT_EQ(count, 100u);
                told.push_back(done);
              },
              &stop};
  std::vector<int> pieces(100);
  const auto work = [&](std::size_t i) { pieces[i] = 1; };
  in_parallel(pieces.size(), watch, work);
  ASSERT_EQ(told.size(), 100u);
  for (std::size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i], i + 1);
  }
  stop = true;
  told.clear();
  pieces.assign(100, 0);
  in_parallel(pieces.size(), watch, work);
  EXPECT_EQ(pieces, std::vector<int>(100));
  EXPECT_TRUE(told.empty());
  stop = false;
  watch.on_progress = [&](std::size_t done, std::size_t) {
    told.push_back(done);
    stop = true;
  };
  in_parallel(pieces.size(), watch, work);
  EXPECT_EQ(static_cast<std::size_t>(std::count(pieces.begin(), pieces.end(), 1)), told.size());
  in_parallel(0, watch, work);
}

TEST(Watch, AnInterruptionLeavesWhatIsKnown) {
  const plan::Job job = job_of();
  const plan::PlanGraph graph = plan::build(job);
  const std::atomic<bool> stop{true};
  const Watch watch{{}, &stop};
  EXPECT_TRUE(sensitivity(job, graph, plain(), Time{1}, watch).empty());
  EXPECT_TRUE(changed_plans(job, kLoad, {}, Time{1}, watch).empty());
}

Sweep swept(const std::vector<std::string>& texts, const std::vector<std::string>& overrides = {},
            const Watch& watch = {}) {
  std::vector<SweepAxis> axes;
  for (const std::string& text : texts) {
    axes.push_back(sweep_axis(text));
  }
  const LoadJob load = [&](const std::vector<std::string>& further) {
    std::vector<std::string> all = overrides;
    all.insert(all.end(), further.begin(), further.end());
    return job_of(all);
  };
  return sweep(job_of(overrides), load, {}, axes, watch);
}

// 16 sequences of 64 tokens a step.
TEST(Sweep, OfOneValueIsTheEstimate) {
  const plan::Job job = job_of({"strategy.micro_batch=2"});
  const plan::PlanGraph graph = plan::build(job);
  const Time step = sim::simulate(graph, job.cluster, {}).step_time;
  const Sweep s = swept({"micro_batch=2"});
  ASSERT_EQ(s.rows.size(), 1u);
  EXPECT_EQ(s.rows[0].step_time, step);
  EXPECT_DOUBLE_EQ(s.rows[0].tokens_per_second, 1024 / seconds(step));
  EXPECT_EQ(s.rows[0].demand, plan::memory_fit(job, graph).demand);
  EXPECT_EQ(s.no_effect, std::vector<std::string>{""});
}

// The last axis fastest; of 4 devices pp takes 1 or 2, dp what is left.
TEST(Sweep, HasAllCombinationsAndLetsDpFollow) {
  const Sweep s = swept({"pp=1,2", "micro_batch=1,2"});
  ASSERT_EQ(s.rows.size(), 4u);
  EXPECT_TRUE(s.dp_follows);
  EXPECT_EQ(s.rows[1].values, (std::vector<std::string>{"1", "2"}));
  EXPECT_EQ(s.rows[2].values, (std::vector<std::string>{"2", "1"}));
  const plan::Job job = job_of({"strategy.pp=2", "strategy.dp=2"});
  EXPECT_EQ(s.rows[2].step_time, sim::simulate(plan::build(job), job.cluster, {}).step_time);
  EXPECT_EQ(s.no_effect, (std::vector<std::string>{"", ""}));
}

TEST(Sweep, SaysWhyAnInputHasNoEffect) {
  const std::vector<std::string> of_one{"cluster.devices_per_node=1", "strategy.dp=1"};
  EXPECT_EQ(swept({"zero=0,1"}, of_one).no_effect[0], "dp is 1: gradients and optimizer state are shared with nobody");
  EXPECT_EQ(swept({"sequence_parallel=false,true"}, of_one).no_effect[0],
            "tp is 1: there is nothing to exchange inside a layer");
  EXPECT_EQ(swept({"dp=4,4"}).no_effect[0], "all values resolve to the same job");
  EXPECT_EQ(swept({"zero=0,3"}).no_effect[0], "");
}

// 3 heads: tp 2 is no job, and the table says so in one line.
TEST(Sweep, KeepsRefusedRows) {
  const Sweep s = swept({"tp=1,2"});
  ASSERT_EQ(s.rows.size(), 2u);
  EXPECT_EQ(s.rows[0].refused, "");
  EXPECT_NE(s.rows[1].refused, "");
  EXPECT_EQ(s.rows[1].refused.find('\n'), std::string::npos);
  EXPECT_EQ(s.rows[1].step_time, Time{});
}

// What the values are is told of all rows; that none of them makes a difference is not said of a part.
TEST(Sweep, InterruptedSaysWhichRowsAreLeftOut) {
  const std::vector<std::string> axes{"dp=4,4,4,4,4,4,4,4", "zero=0,0,0"};
  const Sweep all = swept(axes);
  EXPECT_NE(all.no_effect[0], "");
  std::atomic<bool> stop{false};
  const Sweep part = swept(axes, {}, {[&](std::size_t, std::size_t) { stop = true; }, &stop});
  ASSERT_EQ(part.rows.size(), all.rows.size());
  bool whole = true;
  for (std::size_t r = 0; r < all.rows.size(); ++r) {
    EXPECT_EQ(part.rows[r].values, all.rows[r].values);
    const bool done = part.rows[r].refused.empty();
    EXPECT_EQ(part.rows[r].refused, done ? "" : kLeftOut);
    EXPECT_EQ(part.rows[r].step_time, done ? all.rows[r].step_time : Time{});
    whole &= done;
  }
  EXPECT_EQ(part.no_effect[0].empty(), !whole);
}

TEST(Sweep, ReadsAxes) {
  const SweepAxis axis = sweep_axis("layers_per_stage=[1,3],[2,2]");
  EXPECT_EQ(axis.field, "strategy.layers_per_stage");
  EXPECT_EQ(axis.values, (std::vector<std::string>{"[1,3]", "[2,2]"}));
  const auto mistake = [](const std::string& text) { return test::message_of([&] { sweep_axis(text); }); };
  EXPECT_EQ(mistake("tp"), "--sweep: \"tp\" is not allowed; expected FIELD=A,B,C, as tp=1,2,4");
  EXPECT_EQ(mistake("tp=1,,2"), "--sweep: \"tp=1,,2\" has an empty value; expected FIELD=A,B,C");
  EXPECT_EQ(mistake("layers_per_stage=[1,3"), "--sweep: \"layers_per_stage=[1,3\" has an open bracket or quote");
  // 101 x 100 rows.
  std::string many = "micro_batch=1";
  std::string fewer = "zero=1";
  for (int i = 1; i < 101; ++i) {
    many += ",1";
    fewer += i < 100 ? ",1" : "";
  }
  EXPECT_EQ(test::message_of([&] { swept({many, fewer}); }), "--sweep: more than 10000 rows; sweep fewer values");
}

}  // namespace
}  // namespace foretrain::search
