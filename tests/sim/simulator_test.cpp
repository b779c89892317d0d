#include "sim/simulator.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "plan/validate.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/message_of.h"
#include "tests/support/random_schedule.h"

namespace foretrain::sim {
namespace {

const std::vector<std::string> kNone;

Options one_step(bool fold = true) {
  Options o;
  o.steps = 1;
  o.fold_time = fold;
  return o;
}

std::vector<std::int64_t> starts(const plan::Timeline& t, plan::Rank rank, plan::StreamId stream) {
  std::vector<std::int64_t> result;
  for (const plan::Span& s : t.spans) {
    if (s.rank == rank && s.stream == stream) {
      result.push_back(s.start.value);
    }
  }
  return result;
}

// Ops of one stream run in order, other streams at once. Stream 1 waits for the first op only:
//   compute: [0,10) [10,30)      stream 1: [10,15)
TEST(Simulator, StreamsRunInOrderAndBesideEachOther) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(10), work(20), work(5, 1, {0})});
  const plan::Timeline t = timeline(g, clockwork(1), one_step());
  EXPECT_EQ(starts(t, 0, 0), (std::vector<std::int64_t>{0, 10}));
  EXPECT_EQ(starts(t, 0, 1), (std::vector<std::int64_t>{10}));
  EXPECT_EQ(t.step_ends, std::vector<Time>{Time{30}});
  EXPECT_EQ(plan::validate(g, t), kNone);
}

// An event never recorded before is signalled; a wait takes the latest record earlier in program order, here of the
// step before. Step 0: compute [0,10), stream 1 [0,25) records. Step 1: compute waits until 25: [25,35), stream 1
// [25,50).
TEST(Simulator, AnEventReachesIntoTheNextStep) {
  plan::PlanGraph g = stages(1);
  g.roles[0].events = {{"done", plan::Replicas::once}};
  plan::Op waiting = work(10);
  waiting.waits = {0};
  plan::Op recording = work(25, 1);
  recording.records = {0};
  append(g.roles[0], {waiting, recording});
  const plan::Timeline t = timeline(g, clockwork(1));
  EXPECT_EQ(starts(t, 0, 0), (std::vector<std::int64_t>{0, 25}));
  EXPECT_EQ(t.step_ends, (std::vector<Time>{Time{25}, Time{50}}));
  EXPECT_EQ(plan::validate(g, t), kNone);
}

// The receiver comes at 40, the sender at 10: the message takes [40,47) on both sides, and blocks no other stream.
TEST(Simulator, SenderAndReceiverMeet) {
  plan::PlanGraph g = stages(2);
  g.tags = {"x"};
  append(g.roles[0], {work(10), message(true, 1, 0, 7, 2, {0}), work(100)});
  append(g.roles[1], {work(40), message(false, 0, 0, 7, 1, {0}), work(3, plan::kCompute, {1})});
  const plan::Timeline t = timeline(g, clockwork(2), one_step());
  EXPECT_EQ(starts(t, 0, 0), (std::vector<std::int64_t>{0, 10}));
  EXPECT_EQ(starts(t, 0, 2), (std::vector<std::int64_t>{40}));
  EXPECT_EQ(starts(t, 1, 0), (std::vector<std::int64_t>{0, 47}));
  EXPECT_EQ(plan::validate(g, t), kNone);
}

// 2 stages, all_reduce of 100 bytes over both: starts when the later one (30) is there and takes 2 (n-1)/n S/B = 100 ps
// (n = 2) in a ring.
TEST(Simulator, ACollectiveOverRolesStartsWithItsLastMember) {
  plan::PlanGraph g = stages(2);
  g.tags = {"sum"};
  g.groups = {{"all", {{plan::Axis::pp, 0, {}}}, {}}};
  plan::Op sum;
  sum.work = plan::Collective{plan::CollectiveKind::all_reduce, 0, 100, Dtype::u8, plan::Reduction::sum, 0};
  sum.stream = 1;
  sum.after = {0};
  append(g.roles[0], {work(10), sum, work(1, plan::kCompute, {1})});
  append(g.roles[1], {work(30), sum, work(1, plan::kCompute, {1})});
  for (const bool fold : {false, true}) {
    const Simulation s = simulate(g, clockwork(2), one_step(fold));
    EXPECT_EQ(s.folded_time, fold);
    EXPECT_EQ(s.step_ends, std::vector<Time>{Time{131}});
    // Stage 0 computes 10 + 1; it waits 20 for the other stage, then 100 for the sum itself.
    EXPECT_EQ(s.breakdown[0].compute, Time{11});
    EXPECT_EQ(s.breakdown[0].bubble, Time{20});
    EXPECT_EQ(s.breakdown[0].exposed_pp, Time{100});
    EXPECT_EQ(s.breakdown[1].compute, Time{31});
    EXPECT_EQ(s.breakdown[1].bubble, Time{0});
  }
}

// Without communication every schedule of p stages and m microbatches fills (m + p - 1) slots of one forward and one
// backward on the critical path; interleaving v chunks shortens the p - 1 to chunks: m v (f + b) + (p - 1)(f + b).
TEST(Simulator, PipelinesTakeWhatTheFormulaSays) {
  const std::int64_t f = 7, b = 13;
  for (const int p : {1, 2, 3, 4, 8}) {
    for (const int m : {1, 2, 5, 16}) {
      for (const bool fold : {false, true}) {
        const std::vector<Time> expected{Time{(m + p - 1) * (f + b)}};
        EXPECT_EQ(simulate(pipeline(plan::one_f_one_b(p, m), 1, f, b, 0), clockwork(p), one_step(fold)).step_ends,
                  expected)
            << "1f1b p=" << p << " m=" << m;
        EXPECT_EQ(simulate(pipeline(plan::gpipe(p, m), 1, f, b, 0), clockwork(p), one_step(fold)).step_ends, expected)
            << "gpipe p=" << p << " m=" << m;
      }
    }
  }
  for (const int p : {2, 4}) {
    for (const int m : {4, 8}) {
      const int v = 2;
      const Simulation s = simulate(pipeline(plan::interleaved(p, v, m), v, f, b, 0), clockwork(p), one_step());
      EXPECT_EQ(s.step_ends, std::vector<Time>{Time{(m * v + p - 1) * (f + b)}}) << "p=" << p << " m=" << m;
    }
  }
}

// What 1F1B leaves idle on each rank is (p - 1) (F + I + W); H1 puts weight gradients there: (p - 1) (F + I - W). H2
// and V are idle only where the schedule begins and ends: p - 1 between the first rank's begin and the last rank's. V's
// stages are half as long: counted in halves of a stage, m microbatches are 6 m. Both ways of simulating, and each rank
// on its own: the busy and the idle part of the step add up.
TEST(Simulator, ZeroBubbleSchedulesLeaveTheBubbleOfThePaper) {
  const std::int64_t u = 10;
  const plan::Durations all_equal{u, 2 * u, u, u};
  const auto simulated = [&](const plan::Schedule& schedule, int v, bool fold) {
    return simulate(pipeline(schedule, v, all_equal, 0), clockwork(static_cast<int>(schedule.size())), one_step(fold));
  };
  for (const int p : {1, 2, 3, 4, 8}) {
    for (const int m : {2 * p - 1, 4 * p}) {
      for (const bool fold : {false, true}) {
        SCOPED_TRACE("p=" + std::to_string(p) + " m=" + std::to_string(m));
        const auto bubble = [&](const plan::Schedule& schedule, int v) {
          const Simulation s = simulated(schedule, v, fold);
          for (const plan::Breakdown& rank : s.breakdown) {
            EXPECT_EQ(rank.compute, Time{3 * v * m * u});
          }
          return (s.step_ends.front() - Time{3 * v * m * u}).value;
        };
        EXPECT_EQ(bubble(plan::one_f_one_b(p, m), 1), (p - 1) * 3 * u);
        EXPECT_EQ(bubble(plan::zb_h1(p, m), 1), (p - 1) * u);
        EXPECT_EQ(bubble(plan::zb_h2(p, m), 1), (p - 1) * u);
        EXPECT_EQ(bubble(plan::zb_v(p, m), 2), (p - 1) * u);
        if (m >= 2 * p) {
          EXPECT_EQ(bubble(plan::dualpipe_v(p, m), 2), (p - 1) * u);
        }
      }
    }
  }
}

// H1 beyond equal halves: F + I - W on p - 1 ranks, as long as W is no longer than F and I.
TEST(Simulator, ZeroBubbleOneWithUnequalHalves) {
  for (const int p : {2, 3, 4}) {
    for (const plan::Durations& d : {plan::Durations{7, 0, 7, 5}, plan::Durations{7, 0, 9, 7}}) {
      const int m = 3 * p;
      const Simulation s = simulate(pipeline(plan::zb_h1(p, m), 1, d, 0), clockwork(p), one_step());
      const std::int64_t work = m * (d.forward + d.backward_input + d.backward_weight);
      EXPECT_EQ(s.step_ends,
                std::vector<Time>{Time{work + (p - 1) * (d.forward + d.backward_input - d.backward_weight)}});
    }
  }
}

// Where messages take no time the simulator says what plan::times says, of any schedule and any durations.
TEST(Simulator, RandomSchedulesEndWhenTheirOrderSays) {
  std::mt19937 random(13);
  const auto any = [&] { return 1 + static_cast<std::int64_t>(random() % 20); };
  for (int trial = 0; trial < 100; ++trial) {
    const int p = 1 + static_cast<int>(random() % 4), v = 1 + static_cast<int>(random() % 3);
    const plan::Schedule schedule = testing::random_schedule(random, p, v, 1 + static_cast<int>(random() % 5));
    const plan::Durations durations{any(), any(), any(), any()};
    for (const bool fold : {false, true}) {
      EXPECT_EQ(simulate(pipeline(schedule, v, durations, 0), clockwork(p), one_step(fold)).step_ends,
                std::vector<Time>{Time{plan::times(schedule, durations).makespan}})
          << plan::to_text(schedule);
    }
  }
}

// Each of the p - 1 boundaries delays the first forward and the last backward by one message each; in between 1F1B
// waits for two messages per microbatch of the steady state once p > 1. p = 2, m = 1: f, message, f + b, message, b.
TEST(Simulator, MessagesLengthenThePipeline) {
  const Simulation s = simulate(pipeline(plan::one_f_one_b(2, 1), 1, 7, 13, 5), clockwork(2), one_step());
  EXPECT_EQ(s.step_ends, std::vector<Time>{Time{7 + 5 + 7 + 13 + 5 + 13}});
}

TEST(Simulator, TimelinesOfPipelinesAreValid) {
  for (const int p : {1, 2, 4}) {
    for (const int m : {1, 3, 8}) {
      for (const bool exclusive : {false, true}) {
        const plan::PlanGraph g = pipeline(plan::one_f_one_b(p, m), 1, 11, 17, 6);
        EXPECT_EQ(plan::validate(g, timeline(g, clockwork(p, exclusive))), kNone) << p << " " << m << " " << exclusive;
      }
    }
  }
}

// One core: both streams' ops are ready at 10, and the first in the program goes first.
TEST(Simulator, AnExclusiveDeviceRunsOneOpAtATime) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(10), work(5, 1, {0}), work(20)});
  const plan::Timeline t = timeline(g, clockwork(1, true), one_step());
  EXPECT_EQ(starts(t, 0, 0), (std::vector<std::int64_t>{0, 15}));
  EXPECT_EQ(starts(t, 0, 1), (std::vector<std::int64_t>{10}));
}

// The receive is there at 0, the send at 10. The receiver copies once its op ends at 15, before its next op: [15,22).
// The sender goes on with its own work meanwhile, and its send is complete at 22.
TEST(Simulator, TheReceiverCopiesOnItsCore) {
  plan::PlanGraph g = stages(2);
  g.tags = {"x"};
  append(g.roles[0], {work(10), message(true, 1, 0, 7, 2, {0}), work(10), work(1, plan::kCompute, {1})});
  append(g.roles[1], {work(15), message(false, 0, 0, 7, 1), work(8)});
  const plan::Timeline t = timeline(g, clockwork(2, true), one_step());
  EXPECT_EQ(starts(t, 0, 0), (std::vector<std::int64_t>{0, 10, 22}));
  EXPECT_EQ(starts(t, 0, 2), (std::vector<std::int64_t>{10}));
  EXPECT_EQ(starts(t, 1, 0), (std::vector<std::int64_t>{0, 22}));
  EXPECT_EQ(starts(t, 1, 1), (std::vector<std::int64_t>{10}));
  EXPECT_EQ(plan::validate(g, t), kNone);
}

// Both members are there at 30, when stage 0 is in the middle of an op that ends at 50: stage 1 does its share of 100
// ps in [30,130), stage 0 in [50,150), and the sum is complete at 150 on both.
TEST(Simulator, EachMemberDoesItsShareOnItsCore) {
  plan::PlanGraph g = stages(2);
  g.tags = {"sum"};
  g.groups = {{"all", {{plan::Axis::pp, 0, {}}}, {}}};
  plan::Op sum;
  sum.work = plan::Collective{plan::CollectiveKind::all_reduce, 0, 100, Dtype::u8, plan::Reduction::sum, 0};
  sum.stream = 1;
  sum.after = {0};
  append(g.roles[0], {work(10), sum, work(40), work(1, plan::kCompute, {1})});
  append(g.roles[1], {work(30), sum, work(5), work(1, plan::kCompute, {1})});
  const plan::Timeline t = timeline(g, clockwork(2, true), one_step());
  EXPECT_EQ(starts(t, 0, 0), (std::vector<std::int64_t>{0, 10, 150}));
  EXPECT_EQ(starts(t, 1, 0), (std::vector<std::int64_t>{0, 130, 150}));
  EXPECT_EQ(starts(t, 0, 1), (std::vector<std::int64_t>{30}));
  EXPECT_EQ(starts(t, 1, 1), (std::vector<std::int64_t>{30}));
  EXPECT_EQ(plan::validate(g, t), kNone);
}

// A machine with 2 cores on which two ranks at work run at half speed each. Fills of 500 and 1000 bytes take half a
// picosecond less than that, and are rounded up.
topologies::Cluster shared_machine() {
  topologies::Cluster c = clockwork(2, true);
  c.this_machine = true;
  topologies::Profile p;
  p.name = "shared";
  p.measured.cores = 2;
  p.measured.memory = {{"fill", Dtype::u8, 500, 499.5e-12}, {"fill", Dtype::u8, 1000, 999.5e-12}};
  p.measured.sharing = {{1, "memory", 1, 1.0}, {2, "memory", 1, 2.0}};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

// Works of 1000 and 500. Together both run at half speed: the shorter ends at 1000, when the longer has 500 left, which
// it does alone: 1500.
TEST(Simulator, RanksOfOneMachineSlowEachOther) {
  plan::PlanGraph g = stages(2);
  append(g.roles[0], {work(1000)});
  append(g.roles[1], {work(500)});
  const plan::Timeline t = timeline(g, shared_machine(), one_step());
  ASSERT_EQ(t.spans.size(), 2u);
  EXPECT_EQ(t.spans[0].end, Time{1500});
  EXPECT_EQ(t.spans[1].end, Time{1000});
}

// Rank 1 is held back to half of its speed: its 500 take 1000, of which it sleeps half. So rank 0 runs at full speed
// for half of the time and at half for the other: 1000 / 0.75. Rank 1 has done 667 of 1000 by then, and goes on alone.
TEST(Simulator, ARankThatIsHeldBackSlowsOthersWhileItIsAtWork) {
  plan::PlanGraph g = stages(2);
  append(g.roles[0], {work(1000)});
  append(g.roles[1], {work(500)});
  topologies::Cluster c = shared_machine();
  c.disturbance.devices = {{1, 1, 0.5}};
  const plan::Timeline t = timeline(g, c, one_step());
  ASSERT_EQ(t.spans.size(), 2u);
  EXPECT_EQ(t.spans[0].end, Time{1334});
  EXPECT_EQ(t.spans[1].end, Time{1667});
}

// All ranks of a role are at work together: two data parallel ranks halve each other's speed.
TEST(Simulator, RanksOfOneRoleShareTheMachineToo) {
  plan::PlanGraph g = stages(1);
  g.mesh.extent = {1, 2, 1, 1};
  append(g.roles[0], {work(1000)});
  EXPECT_EQ(simulate(g, shared_machine(), one_step()).step_ends, std::vector<Time>{Time{2000}});
}

// More ranks than the table knows time-share: 4 at work, factor 2 x 4/2.
TEST(Simulator, RanksBeyondTheCoresTakeTurns) {
  plan::PlanGraph g = stages(1);
  g.mesh.extent = {1, 4, 1, 1};
  append(g.roles[0], {work(1000)});
  EXPECT_EQ(simulate(g, shared_machine(), one_step()).step_ends, std::vector<Time>{Time{4000}});
}

TEST(Simulator, ADeadlockIsOurOwnMistakeAndNamed) {
  plan::PlanGraph g = stages(2);
  g.tags = {"x"};
  append(g.roles[0], {message(true, 1, 0, 7, 2)});
  append(g.roles[1], {work(1)});
  try {
    simulate(g, clockwork(2), one_step());
    FAIL() << "no error";
  } catch (const InternalError& e) {
    EXPECT_NE(std::string(e.what()).find("waiting: stage 0 0.0"), std::string::npos) << e.what();
  }
}

TEST(Simulator, UnknownModelsAreNamed) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(1)});
  Options o;
  o.compute_model = "rofline";
  EXPECT_EQ(test::message_of([&] { simulate(g, clockwork(1), o); }),
            "unknown compute model \"rofline\"; did you mean \"roofline\"? known: auto, roofline, measured");
  o = {};
  o.network_model = "quantum";
  EXPECT_EQ(test::message_of([&] { simulate(g, clockwork(1), o); }),
            "unknown network model \"quantum\"; known: auto, alpha_beta, fair_share, measured");
  o = {};
  o.compute_model = "measured";
  EXPECT_EQ(test::message_of([&] { simulate(g, clockwork(1), o); }),
            "compute model \"measured\": clockwork has no measured tables; expected a profile made by calibrate");
}

}  // namespace
}  // namespace foretrain::sim
