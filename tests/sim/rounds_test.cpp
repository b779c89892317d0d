// Rounds of microbatches that are left out, and the times of the whole.
#include "sim/rounds.h"

#include <gtest/gtest.h>

#include <map>

#include "plan/build.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

using Overrides = std::vector<std::string>;
using Copies = std::vector<std::int32_t>;

// Returns how many rounds were left out.
std::int32_t expect_same(const plan::PlanGraph& g, const topologies::Cluster& c, int steps) {
  Options options;
  options.steps = steps;
  const Simulation folded = simulate(g, c, options);
  options.fold_time = false;
  const Simulation events = simulate(g, c, options);
  EXPECT_EQ(events.rounds_left_out, 0);
  EXPECT_EQ(folded.step_ends, events.step_ends);
  for (std::size_t r = 0; r < events.breakdown.size(); ++r) {
    const plan::Breakdown &x = folded.breakdown[r], &y = events.breakdown[r];
    for (const plan::Share share :
         {&plan::Breakdown::compute, &plan::Breakdown::recompute, &plan::Breakdown::exposed_tp,
          &plan::Breakdown::exposed_dp, &plan::Breakdown::exposed_pp, &plan::Breakdown::bubble,
          &plan::Breakdown::optimizer, &plan::Breakdown::host}) {
      EXPECT_EQ(x.*share, y.*share) << r;
    }
  }
  return folded.rounds_left_out;
}

plan::PlanGraph graph_of(const char* text, Overrides overrides, topologies::Cluster& cluster) {
  overrides.insert(overrides.begin(), {"precision=bf16", "global_batch=64"});
  const plan::Job job = testing::tiny_job(text, overrides);
  cluster = clockwork(2);
  cluster.nodes = job.strategy.ranks();
  cluster.device.memory_bandwidth = Bandwidth{3e11};
  cluster.device.peak[Dtype::bf16] = FlopRate{7e12};
  cluster.inter.bandwidth = Bandwidth{4e10};
  cluster.inter.latency = Time{12345};
  return plan::build(job);
}

// Two stages, 64 microbatches. Stage 0 does F0, then F1 B0 F2 B1 … F63 B62: 63 rounds, and B63. Stage 1 does F0 B0 F1
// B1 …: no fewer. Kept are 4 + 2 x 2, or twice as
// many and 4. A round of stage 0 takes the slot that its backward freed: two take turns, and so
// do both stages' rings. 55 rounds are an odd number of turns.
TEST(Rounds, OfTwoStages) {
  topologies::Cluster c;
  const plan::PlanGraph g = graph_of(testing::kTinyGpt, {"pp=2"}, c);
  const std::vector<Rounds> rounds = find_rounds(g, 2);
  ASSERT_EQ(rounds.size(), 2u);
  EXPECT_EQ(rounds[1].kept, 20);
  EXPECT_EQ(rounds[1].left_out, 43);
  EXPECT_EQ(rounds[0].kept, 8);
  EXPECT_EQ(rounds[0].left_out, 55);
  EXPECT_EQ(rounds[0].roles[0].slots, (Copies{1, 0}));
  EXPECT_EQ(rounds[0].roles[1].slots, (Copies{0}));
  EXPECT_EQ(rounds[0].roles[0].rings, (Copies{1, 0}));
  for (std::size_t r = 0; r < 2; ++r) {
    const std::vector<plan::Instance>& body = g.roles[r].program.body;
    const RoundCut& cut = rounds[0].roles[r];
    ASSERT_EQ(cut.length, 2u);
    ASSERT_EQ(cut.bodies.size(), 2u);
    for (std::size_t step = 0; step < 2; ++step) {
      const std::vector<plan::Instance>& left = cut.bodies[step];
      ASSERT_EQ(left.size(), body.size() - 110);
      const auto turned = [](std::int32_t copy, std::size_t times) {
        return copy >= 0 && times % 2 == 1 ? 1 - copy : copy;
      };
      for (std::size_t i = 0; i < left.size(); ++i) {
        const bool is_behind = i >= cut.cut;
        const plan::Instance& whole = body[is_behind ? i + 110 : i];
        EXPECT_EQ(left[i].segment, whole.segment);
        EXPECT_EQ(left[i].microbatch, whole.microbatch < 0 ? -1 : whole.microbatch - (is_behind ? 55 : 0));
        const std::size_t times = step + (is_behind ? 1 : 0);
        EXPECT_EQ(left[i].slot, r == 0 ? turned(whole.slot, times) : whole.slot);
        EXPECT_EQ(left[i].ring, turned(whole.ring, times));
      }
    }
  }
}

TEST(Rounds, NoneWhereTheyAreFew) {
  topologies::Cluster c;
  EXPECT_TRUE(find_rounds(graph_of(testing::kTinyGpt, {"global_batch=8", "pp=2"}, c), 2).empty());
  EXPECT_TRUE(find_rounds(graph_of(testing::kTinyGpt, {"global_batch=1"}, c), 2).empty());
}

// A pipeline's instances of one kind and stage as instances of one segment.
plan::PlanGraph with_shared_segments(plan::PlanGraph g, const plan::Schedule& schedule) {
  for (std::size_t r = 0; r < g.roles.size(); ++r) {
    std::map<plan::ActionKind, plan::SegmentId> of_kind;
    for (std::size_t i = 0; i < schedule[r].size(); ++i) {
      plan::Instance& instance = g.roles[r].program.body[i];
      instance.segment = of_kind.emplace(schedule[r][i].kind, instance.segment).first->second;
    }
  }
  return g;
}

// 1F1B of 100 microbatches without anything to wait for on the way takes (100 + stages - 1)(f + b). One stage has 100
// rounds and keeps 4 + 2; the first of two has 99 and keeps 4 + 4.
TEST(Rounds, ByHand) {
  for (const int stages : {1, 2}) {
    const plan::Schedule schedule = plan::one_f_one_b(stages, 100);
    const plan::PlanGraph g = with_shared_segments(pipeline(schedule, 1, 11, 17, 0), schedule);
    for (const int steps : {1, 2, 3}) {
      EXPECT_EQ(expect_same(g, clockwork(stages), steps), stages == 1 ? 94 : 91);
    }
    EXPECT_EQ(simulate(g, clockwork(stages), {}).step_time, Time{(100 + stages - 1) * 28});
  }
}

// Forwards alone, of which stage 1 takes three times as long: stage 0 gets further ahead with each round, and no round
// of both is as the one before. The last forward ends at 11 + 6 + 100 x 33.
TEST(Rounds, NoneWhereStagesDriftApart) {
  plan::Schedule schedule(2);
  for (std::int32_t m = 0; m < 100; ++m) {
    schedule[0].push_back({0, plan::ActionKind::forward, m});
    schedule[1].push_back({1, plan::ActionKind::forward, m});
  }
  plan::PlanGraph g = with_shared_segments(pipeline(schedule, 1, 11, 17, 6), schedule);
  for (plan::Block& block : g.roles[1].blocks) {
    for (plan::Op& op : block.ops) {
      if (op.stream == plan::kCompute) {
        op.work = plan::Fill{33, Dtype::u8};
      }
    }
  }
  EXPECT_FALSE(find_rounds(g, 1).empty());
  EXPECT_EQ(expect_same(g, clockwork(2), 1), 0);
  Options options;
  options.steps = 1;
  EXPECT_EQ(simulate(g, clockwork(2), options).step_time, Time{11 + 6 + 100 * 33});
}

TEST(Rounds, AsOpByOp) {
  int left_out = 0;
  for (const Overrides& s :
       std::vector<Overrides>{{},
                              {"dp=2", "overlap_grad_reduce=true"},
                              {"dp=2", "zero=1", "overlap_param_gather=true", "bucket_bytes=20 kB"},
                              {"dp=2", "zero=3"},
                              {"tp=2", "sequence_parallel=true", "recompute=full"},
                              {"pp=2"},
                              {"pp=4", "tp=2"},
                              {"pp=4", "layers_per_stage=[0,3,1,0]"},
                              {"pp=2", "dp=2", "zero=2"},
                              {"pp=2", "schedule=interleaved", "virtual_stages=2"},
                              {"pp=4", "schedule=gpipe", "layers_per_stage=[0,1,1,2]"},
                              {"pp=2", "schedule=zb_h1"},
                              {"dp=2", "pp=2", "schedule=zb_v", "zero=1"},
                              {"dp=2", "pp=2", "schedule=dualpipe_v"},
                              {"dp=2", "pp=2", "schedule=dualpipe"},
                              {"pp=2", "dp=2", "offload=[\"activations\"]"}}) {
    for (const char* model : {testing::kTinyGpt, testing::kTinyLlama}) {
      SCOPED_TRACE(::testing::PrintToString(s));
      topologies::Cluster c;
      const plan::PlanGraph g = graph_of(model, s, c);
      for (const int steps : {1, 2, 3}) {
        left_out += expect_same(g, c, steps) > 0 ? 1 : 0;
      }
      for (const double submit : {0.0, 4e-8, 1e-5}) {  // the host is never, now and then, always too late
        share_devices(c, submit);
        left_out += expect_same(g, c, 2) > 0 ? 1 : 0;
      }
    }
  }
  EXPECT_GE(left_out, 150);  // of 192: some take longer to settle
}

// Where events decide, they leave rounds out, too.
TEST(Rounds, OfEvents) {
  int left_out = 0;
  for (const Overrides& s : std::vector<Overrides>{{"dp=2", "data_parallel=gather", "overlap_grad_reduce=true"},
                                                   {"dp=4", "zero=3", "shard=2"},
                                                   {"dp=2", "tp=2", "loss_chunks=4", "zero=2"},
                                                   {"cp=2", "pp=2"},
                                                   {"dp=2", "cp=2", "zero=3"}}) {
    for (const char* model : {testing::kTinyGpt, testing::kTinyLlama}) {
      topologies::Cluster c;
      const plan::PlanGraph g = graph_of(model, s, c);
      for (const double submit : {0.0, 1e-5}) {
        SCOPED_TRACE(::testing::PrintToString(s));
        share_devices(c, submit);
        const bool by_events = !simulate(g, c, {}).folded_time;
        for (const int steps : {1, 2, 3}) {
          left_out += expect_same(g, c, steps) > 0 && by_events ? 1 : 0;
        }
      }
    }
  }
  EXPECT_GE(left_out, 12);  // of 60: some fold, some take longer to settle
}

}  // namespace
}  // namespace foretrain::sim
