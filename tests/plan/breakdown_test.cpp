#include "plan/breakdown.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_graphs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::Dice;
using foretrain::testing::op;
using foretrain::testing::random_graph;
using foretrain::testing::run_alone;

// One rank whose block is given as (stream, phase, after); streams: 0 compute, 1 tp, 2 dp, 3 pp, 4 host.
struct Line {
  StreamId stream;
  std::vector<std::uint16_t> after;
  Phase phase = Phase::forward;
  bool is_join = false;
};

PlanGraph graph_of(const std::vector<Line>& lines) {
  PlanGraph g;
  Role role;
  role.name = "all";
  role.streams = {{"compute", StreamKind::compute, Axis::tp},
                  {"tp", StreamKind::collective, Axis::tp},
                  {"dp", StreamKind::collective, Axis::dp},
                  {"act_in", StreamKind::point_to_point, Axis::pp},
                  {"host", StreamKind::host, Axis::tp}};
  Block block{"b", {}};
  for (const Line& l : lines) {
    Op o = op(l.is_join ? Work(Join{}) : Work(Fill{}), l.stream, {}, {}, l.after);
    o.phase = l.phase;
    block.ops.push_back(o);
  }
  role.blocks = {block};
  role.segments = {{"S", -1, 0, {{0, 1, -1, 1}}}};
  role.program.body = {{0, -1, -1, -1}};
  g.roles = {role};
  return g;
}

// One step of graph_of(lines): op i in [times[i].first, times[i].second), the step's end.
Breakdown of(const std::vector<Line>& lines, const std::vector<std::pair<int, int>>& times, int end) {
  const PlanGraph g = graph_of(lines);
  Timeline t;
  t.step_ends = {Time{end}};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    t.spans.push_back(
        {{0, 0, static_cast<std::int32_t>(i)}, 0, lines[i].stream, 1, 0, Time{times[i].first}, Time{times[i].second}});
  }
  const std::vector<RankBreakdown> all = breakdowns(g, t);
  EXPECT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].steps.size(), 1u);
  EXPECT_EQ(all[0].steps[0].total(), Time{end});
  return all[0].steps[0];
}

std::vector<std::int64_t> values(const Breakdown& b) {
  return {b.compute.value,    b.recompute.value,  b.exposed_tp.value, b.exposed_dp.value, b.exposed_pp.value,
          b.exposed_cp.value, b.exposed_ep.value, b.bubble.value,     b.optimizer.value,  b.host.value};
}

// compute, recompute, tp, dp, pp, cp, ep, bubble, optimizer, host
using Values = std::vector<std::int64_t>;

TEST(Breakdown, ComputeByPhase) {
  EXPECT_EQ(values(of({{0, {}}, {0, {}, Phase::recompute}, {0, {}, Phase::backward_input}, {0, {}, Phase::optimizer}},
                      {{0, 10}, {10, 14}, {14, 20}, {20, 23}}, 23)),
            (Values{16, 4, 0, 0, 0, 0, 0, 0, 3, 0}));
}

TEST(Breakdown, ExposedFromTheStartOfWhatIsWaitedFor) {
  // compute to 10; its partners reach the all_reduce at 13, it ends at 20; the next op waits for it.
  EXPECT_EQ(values(of({{0, {}}, {1, {0}}, {0, {1}}}, {{0, 10}, {13, 20}, {20, 25}}, 25)),
            (Values{15, 0, 7, 0, 0, 0, 0, 3, 0, 0}));
}

TEST(Breakdown, HiddenCommunicationIsNotExposed) {
  // The dp op runs beside compute from 10 to 30; only [25, 30) is waited for.
  EXPECT_EQ(values(of({{0, {}}, {2, {0}}, {0, {}}, {0, {1}}}, {{0, 10}, {10, 30}, {10, 25}, {30, 31}}, 31)),
            (Values{26, 0, 0, 5, 0, 0, 0, 0, 0, 0}));
  // Nobody waits for it in this step: the tail is what it still does.
  EXPECT_EQ(values(of({{0, {}}, {2, {0}}}, {{0, 10}, {10, 30}}, 32)), (Values{10, 0, 0, 20, 0, 0, 0, 2, 0, 0}));
}

TEST(Breakdown, LooksThroughAChain) {
  // Two dp ops one behind the other, the second after a tp op: [10,14) tp, [14,20) and [20,30) dp, one instant of
  // waiting in between.
  EXPECT_EQ(values(of({{0, {}}, {1, {0}}, {2, {1}}, {2, {}}, {0, {3}}},
                      {{0, 10}, {10, 14}, {15, 20}, {20, 30}, {30, 32}}, 32)),
            (Values{12, 0, 4, 15, 0, 0, 0, 1, 0, 0}));
}

TEST(Breakdown, TheLatestOfSeveralCounts) {
  // Waits for a receive that ends at 18 and a load that ends at 20; the receive ran from 12.
  EXPECT_EQ(values(of({{0, {}}, {3, {}}, {4, {}}, {0, {1, 2}}}, {{0, 10}, {12, 18}, {15, 20}, {20, 21}}, 21)),
            (Values{11, 0, 0, 0, 0, 0, 0, 5, 0, 5}));
}

TEST(Breakdown, JoinsAreTheirWaits) {
  // A join of no length at 20, and the same one measured with a length.
  for (const int start : {20, 12}) {
    EXPECT_EQ(values(of({{0, {}}, {1, {0}}, {0, {1}, Phase::forward, true}, {0, {}}},
                        {{0, 10}, {10, 20}, {start, 20}, {20, 22}}, 22)),
              (Values{12, 0, 10, 0, 0, 0, 0, 0, 0, 0}));
  }
}

TEST(Breakdown, ADeviceTakenByAnotherStream) {
  // Streams take turns on one core: the last op could have started at 10, but the core did a dp op until 18.
  EXPECT_EQ(values(of({{0, {}}, {2, {}}, {0, {}}}, {{0, 10}, {10, 18}, {20, 22}}, 22)),
            (Values{12, 0, 0, 8, 0, 0, 0, 2, 0, 0}));
}

TEST(Breakdown, StepsAreCutWhereTheyEnd) {
  // The second step of this rank starts at 12, before the first ended everywhere (15): [12,15) belongs to the first.
  const PlanGraph g = graph_of({{0, {}}});
  const auto span = [](int step, int start, int end) { return Span{{0, 0, 0}, step, 0, 1, 0, Time{start}, Time{end}}; };
  for (const bool early : {true, false}) {
    BreakdownAccumulator a(g, 0);
    if (early) {
      a.end_step(Time{15});
      a.end_step(Time{30});
    }
    a.add(span(0, 0, 10));
    a.add(span(1, 12, 20));
    if (!early) {
      a.end_step(Time{15});
      a.end_step(Time{30});
    }
    const std::vector<Breakdown> steps = a.finish();
    ASSERT_EQ(steps.size(), 2u);
    EXPECT_EQ(values(steps[0]), (Values{13, 0, 0, 0, 0, 0, 0, 2, 0, 0}));
    EXPECT_EQ(values(steps[1]), (Values{5, 0, 0, 0, 0, 0, 0, 10, 0, 0}));
  }
}

TEST(Breakdown, EventsReachOneStepBack) {
  // Stream dp gathers after compute and records; the next step's compute waits for it. The step ends at 18.
  PlanGraph g = graph_of({{0, {}}, {2, {0}}});
  Role& role = g.roles[0];
  role.events = {{"gathered", Replicas::once}};
  role.blocks[0].ops[0].waits = {0};
  role.blocks[0].ops[1].records = {0};
  const Timeline t = run_alone(g, 2, [](int n) { return n % 2 == 0 ? 10 : 8; });
  const std::vector<RankBreakdown> all = breakdowns(g, t);
  EXPECT_EQ(values(all[0].steps[0]), (Values{10, 0, 0, 8, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(values(all[0].steps[1]), (Values{10, 0, 0, 8, 0, 0, 0, 0, 0, 0}));
}

TEST(Breakdown, ATraceMayBeginLater) {
  const PlanGraph g = random_graph(3, 10);
  Timeline t = run_alone(g, 3, [](int n) { return 1 + n % 4; });
  t.spans.erase(t.spans.begin(), t.spans.begin() + 10);  // the first step
  EXPECT_EQ(breakdowns(g, t)[0].steps.size(), 3u);
}

// Whatever the graph and the durations: steps sum to their periods, and compute is the compute stream's busy time.
TEST(Breakdown, SumsToThePeriod) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const PlanGraph g = random_graph(seed, static_cast<int>(seed % 14));
    Dice dice(seed);
    const Timeline t = run_alone(g, 3, [&](int) { return dice.below(6); });
    if (t.spans.empty()) {
      EXPECT_TRUE(breakdowns(g, t).empty());
      continue;
    }
    const std::vector<RankBreakdown> all = breakdowns(g, t);
    Time begin{}, compute{}, busy{};
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(all[0].steps[i].total(), t.step_ends[i] - begin) << "seed " << seed << " step " << i;
      begin = t.step_ends[i];
      compute += all[0].steps[i].compute;
    }
    for (const Span& s : t.spans) {
      busy += s.stream == kCompute ? s.end - s.start : Time{};
    }
    EXPECT_EQ(compute, busy) << "seed " << seed;
  }
}

TEST(MeanBreakdown, WeighsRanksAndKeepsTheSum) {
  Breakdown a, b;
  a.compute = Time{10};
  a.bubble = Time{1};
  b.compute = Time{5};
  b.exposed_dp = Time{6};
  // compute (3 * 10 + 4 * 5) / 7 = 7 and a rest, exposed 24 / 7 = 3 and a rest; rests go to the bubble.
  const Breakdown mean = mean_breakdown({{0, 3, {a}}, {3, 4, {b}}}, 0);
  EXPECT_EQ(mean.total(), Time{11});
  EXPECT_EQ(mean.exposed_dp, Time{3});
  EXPECT_NEAR(static_cast<double>(mean.compute.value), 50.0 / 7, 2);
  EXPECT_EQ(mean_breakdown({}, 0).total(), Time{});
}

TEST(Totals, CountOpsTimesMultiplicity) {
  const PlanGraph g = foretrain::testing::tensor_parallel_graph();  // two ranks
  const Timeline t = run_alone(g, 3, [](int n) { return 1 + n % 3; });
  const Totals all = totals(g, t);
  EXPECT_EQ(all.by_kind.at("matmul").ops, 6);
  EXPECT_EQ(all.by_kind.at("matmul").time, Time{6});
  EXPECT_EQ(all.by_kind.at("all_reduce").time, Time{12});
  EXPECT_EQ(all.by_stream.at("compute").ops, 12);
  EXPECT_EQ(all.by_stream.at("compute").time, Time{6 + 18});
  EXPECT_EQ(all.by_phase.at("forward").time, Time{36});
  EXPECT_EQ(totals(g, t, 2).by_kind.at("matmul").ops, 2);
  EXPECT_TRUE(totals(g, t, 3).by_kind.empty());
}

}  // namespace
}  // namespace foretrain::plan
