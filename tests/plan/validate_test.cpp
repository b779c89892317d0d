#include "plan/validate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "plan/build.h"
#include "tests/support/tiny_graphs.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::pipeline_graph;
using foretrain::testing::random_graph;
using foretrain::testing::tensor_parallel_graph;
using foretrain::testing::whole;
using Lines = std::vector<std::string>;

Lines after(PlanGraph g, const std::function<void(PlanGraph&)>& change) {
  change(g);
  return validate(g);
}

Op& op_of(PlanGraph& g, int role, int op) {
  return g.roles[static_cast<std::size_t>(role)].blocks[0].ops[static_cast<std::size_t>(op)];
}

TEST(Validate, AcceptsTheTinyGraphs) {
  EXPECT_EQ(validate(tensor_parallel_graph()), Lines{});
  EXPECT_EQ(validate(pipeline_graph()), Lines{});
}

TEST(Validate, AcceptsAGraphThatDoesNothing) {
  PlanGraph g = tensor_parallel_graph();
  g.roles[0].program.body.clear();
  EXPECT_EQ(validate(g), Lines{});
  EXPECT_EQ(validate(PlanGraph{}), Lines{"the roles have 0 ranks, the mesh 1"});
}

TEST(Validate, NamesIdsOutOfRange) {
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 1).stream = 7; }),
            Lines{"all, block layer, op 1: no stream 7"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 1).after = {1}; }),
            Lines{"all, block layer, op 1: comes after op 1, which is not earlier"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 0).reads[1].buffer = 9; }),
            Lines{"all, block layer, op 0: no buffer 9"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 2).waits = {0}; }),
            Lines{"all, block layer, op 2: no event 0"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { std::get<Collective>(op_of(g, 0, 1).work).group = 3; }),
            Lines{"all, block layer, op 1: no group 3"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { std::get<Collective>(op_of(g, 0, 1).work).tag = -1; }),
            Lines{"all, block layer, op 1: no tag -1"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { g.roles[0].program.body[0].segment = 1; }),
            Lines{"all: instance 0: no segment 1"});
}

TEST(Validate, CountsOperandsAndTheirElements) {
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 0).reads.pop_back(); }),
            Lines{"all, block layer, op 0: matmul reads 2 operands and writes 1, has 1 and 1"});
  EXPECT_EQ(
      after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 1).reads[0].elements = 8; }),
      Lines{"all, block layer, op 1: all_reduce 16 fp32 over tp as sum reads 8 and writes 16 elements; expected 16 "
            "and 16"});
}

TEST(Validate, KeepsOperandsInTheirBuffer) {
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 2).writes[0].offset = 1; }),
            Lines{"all, segment F0, block layer, op 2: y[1,17) ends at element 17 of 16"});
  // Index in the tp group is 0 or 1: the second rank's part would end at 32.
  EXPECT_EQ(after(tensor_parallel_graph(),
                  [](PlanGraph& g) {
                    op_of(g, 0, 2).writes[0].rank_group = 0;
                    op_of(g, 0, 2).writes[0].rank_stride = 16;
                  }),
            Lines{"all, segment F0, block layer, op 2: y[0,16)+16*tp ends at element 32 of 16"});
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { g.roles[0].memory.arena = Bytes{64}; }).size(), 3u);
}

TEST(Validate, LayersMayBeRunOverWhenTheyTouch) {
  // Two layers of 16 elements, 64 bytes apart without a gap: an operand of 32 elements covers both, from layer 0 only.
  const auto layered = [](std::int32_t first) {
    PlanGraph g = tensor_parallel_graph();
    Role& role = g.roles[0];
    role.buffers[3].layers = 2;
    role.global_layer = {0, 1};
    role.blocks[0].ops.resize(1);
    role.blocks[0].ops[0] = foretrain::testing::op(Fill{32, Dtype::fp32}, kCompute, {}, {whole(3, 32)});
    role.segments[0].calls[0].first = first;
    place(role);
    return validate(g);
  };
  EXPECT_EQ(layered(0), Lines{});
  EXPECT_EQ(layered(1), Lines{"all, segment F0, block layer, op 0: y[0,32) ends at element 32 of 16"});
  EXPECT_EQ(layered(2), Lines{"all, segment F0: block layer called for layers 2 to 2 of 2"});
}

TEST(Validate, RolesShareOutTheMesh) {
  EXPECT_EQ(after(pipeline_graph(), [](PlanGraph& g) { g.roles[1].ranks.fixed = {}; }),
            Lines({"stage 0 and stage 1 share ranks", "the roles have 3 ranks, the mesh 2"}));
  EXPECT_EQ(after(pipeline_graph(), [](PlanGraph& g) { g.roles[1].ranks.fixed[0].first = 2; })[0],
            "stage 1: at pp 2 of 2");
}

TEST(Validate, GroupsFitTheMesh) {
  const auto with = [](AxisSpan one, AxisSpan other) {
    return after(tensor_parallel_graph(), [&](PlanGraph& g) { g.groups.push_back({"odd", {one, other}, {}}); });
  };
  EXPECT_EQ(with({Axis::tp, 0, {}}, {Axis::dp, 0, {}}), Lines{});
  for (const AxisSpan& bad : {AxisSpan{Axis::tp, 3, {}}, AxisSpan{Axis::tp, -1, {}}, AxisSpan{Axis::tp, 0, {0, 2}},
                              AxisSpan{Axis::tp, 0, {1, 0}}, AxisSpan{Axis::dp, 0, {}}}) {
    EXPECT_EQ(with({Axis::dp, 0, {}}, bad).size(), 1u);
  }
  EXPECT_EQ(after(tensor_parallel_graph(),
                  [](PlanGraph& g) {
                    g.groups[0].weights = {1, 2, 3};
                  }),
            Lines{"group tp has 3 weights and 2 ranks"});
}

// Sizes that would wrap, and loops without an end.
TEST(Validate, RefusesWhatNoGraphHas) {
  const std::int64_t huge = INT64_MAX;
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) { g.roles[0].buffers[0].elements = huge; }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) { g.roles[0].memory.arena = Bytes{huge}; }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) {
                 g.roles[0].memory.placements[0].layer_stride = huge;
               }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) { op_of(g, 0, 2).writes[0].offset = huge; }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) { g.roles[0].slots = -1; }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) { g.roles[0].rings = INT32_MAX; }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) { g.roles[0].segments[0].first_layer = 1; }).empty());
  EXPECT_FALSE(after(tensor_parallel_graph(), [&](PlanGraph& g) {
                 g.roles[0].global_layer = {0};
                 g.roles[0].segments[0].calls[0] = {0, INT32_MAX, 0, 0};
               }).empty());
}

TEST(Validate, FindsWhatIsReadBeforeItIsWritten) {
  EXPECT_EQ(
      after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 0).writes[0] = whole(3, 16); })[0],
      "all, F0 mb 0, all_reduce 16 fp32 over tp as sum (forward): reads c[0,16), which nobody wrote in this block "
      "before");
  // Half of it is not enough.
  EXPECT_EQ(after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 0).writes[0].elements = 8; }).size(), 1u);
}

// Whether a line names both ops as unordered.
bool tells_race(const Lines& lines, const std::string& one, const std::string& other) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
    return line.find(one) != std::string::npos && line.find(other) != std::string::npos &&
           line.find("nothing orders them") != std::string::npos;
  });
}

TEST(Validate, FindsRacesInABlock) {
  const Lines lines = after(tensor_parallel_graph(), [](PlanGraph& g) { op_of(g, 0, 2).after.clear(); });
  EXPECT_TRUE(tells_race(lines, "all, F0 mb 0, all_reduce 16 fp32 over tp as sum (forward): writes c[0,16)",
                         "all, F0 mb 0, activation.forward relu 4x4 fp32 (forward) may be reading it"))
      << ::testing::PrintToString(lines);
}

TEST(Validate, ReadersNeedNoOrder) {
  // A second op on stream "tp" reads a, as the matmul of this and the next step does.
  EXPECT_EQ(after(tensor_parallel_graph(),
                  [](PlanGraph& g) {
                    Role& role = g.roles[0];
                    role.buffers.push_back(role.buffers[3]);
                    Op other = op_of(g, 0, 2);
                    other.stream = 1;
                    other.reads = {whole(0, 16)};
                    other.writes = {whole(4, 16)};
                    role.blocks[0].ops.push_back(other);
                    place(role);
                  }),
            Lines{});
}

TEST(Validate, FindsRacesOneStepBack) {
  // Without its event, stage 0 fills x for the next microbatch while the last message may still be on its way.
  const Lines sender = after(pipeline_graph(), [](PlanGraph& g) { op_of(g, 0, 0).waits.clear(); });
  EXPECT_EQ(sender.size(), 1u);
  EXPECT_TRUE(tells_race(sender, "fill 8 fp32", "send 8 fp32 to pp 1 as act"));
  // Stage 1 has two copies of x: only a step later is the first one received into again.
  const Lines receiver = after(pipeline_graph(), [](PlanGraph& g) { op_of(g, 1, 0).waits.clear(); });
  EXPECT_EQ(receiver.size(), 1u);
  EXPECT_TRUE(tells_race(receiver, "recv 8 fp32 from pp 0 as act", "accumulate 8 fp32"));
}

TEST(Validate, AnEventNobodyRecordsIsAMistake) {
  EXPECT_EQ(after(pipeline_graph(), [](PlanGraph& g) { op_of(g, 1, 1).records.clear(); }),
            Lines{"stage 1: event read is waited for and recorded by no op"});
}

TEST(Validate, PartnersMustAgree) {
  EXPECT_EQ(
      after(pipeline_graph(),
            [](PlanGraph& g) {
              std::get<Exchange>(op_of(g, 1, 0).work).messages[0].elements = 4;
              op_of(g, 1, 0).writes[0].elements = 4;
              op_of(g, 1, 1).reads[0].elements = 4;
            }),
      Lines{"stage 0, F0 mb 0, send 8 fp32 to pp 1 as act (forward) and stage 1, F0 mb 0, recv 4 fp32 from pp 0 as act "
            "(forward) meet as act, mb 0 and differ in elements, type or kind"});
  EXPECT_EQ(after(pipeline_graph(), [](PlanGraph& g) { std::get<Exchange>(op_of(g, 0, 1).work).messages[0].peer = 0; }),
            Lines{"stage 0, block produce, op 1: message to pp 0; the role is at 0 of 2"});
}

TEST(Validate, FindsDeadlocks) {
  const Lines crossed =
      after(pipeline_graph(), [](PlanGraph& g) { std::swap(g.roles[1].program.body[0], g.roles[1].program.body[1]); });
  EXPECT_EQ(crossed[0],
            "stage 0, F0 mb 1, fill 8 fp32 (forward): waits forever for stage 0, F0 mb 0, send 8 fp32 to pp 1 as act "
            "(forward)");
  EXPECT_EQ(crossed[1],
            "stage 0, F0 mb 0, send 8 fp32 to pp 1 as act (forward): waits forever as act, mb 0 for stage 1");
  const Lines missing = after(pipeline_graph(), [](PlanGraph& g) { g.roles[1].program.body.pop_back(); });
  EXPECT_EQ(missing[1],
            "stage 0, F0 mb 1, send 8 fp32 to pp 1 as act (forward): waits forever as act, mb 1 for stage 1");
}

TEST(Validate, KeysAreUniqueInAStep) {
  EXPECT_EQ(
      after(tensor_parallel_graph(),
            [](PlanGraph& g) { g.roles[0].program.body.push_back(g.roles[0].program.body[0]); })[0],
      "all, F0 mb 0, all_reduce 16 fp32 over tp as sum (forward): an earlier op of this step has the same match key "
      "(sum, mb 0)");
}

// Two stages as a worker and its server: what is put is taken, and what is released fetched.
TEST(Validate, ChannelsBalance) {
  const auto channel = [](std::int64_t workers) {
    return after(pipeline_graph(), [&](PlanGraph& g) {
      g.groups.push_back({"pair", {{Axis::pp, 0, {}}}, {}});
      const auto group = static_cast<GroupId>(g.groups.size() - 1);
      op_of(g, 0, 1).work = Channel{ChannelStep::put, group, 1, 8, Dtype::fp32, 0};
      Role& server = g.roles[1];
      server.buffers.push_back({"turns", Dtype::fp64, workers, BufferKind::workspace, Lifetime::persistent, 0});
      server.buffers.push_back({"turn", Dtype::fp64, workers + 1, BufferKind::workspace, Lifetime::persistent, 0});
      place(server);
      Op& take = op_of(g, 1, 0);
      take.work = Channel{ChannelStep::take, group, 1, 8, Dtype::fp32, 0};
      take.reads = {whole(2, workers)};
      take.writes.push_back(whole(3, workers + 1));
    });
  };
  EXPECT_EQ(channel(1), Lines{"channel act: 2 puts, 2 takes, 0 releases and 0 fetches in a step"});
  EXPECT_TRUE(channel(2)[0].ends_with("counts turns of other than 1 workers")) << channel(2)[0];
}

TEST(Validate, StopsAtTwentyLines) {
  PlanGraph g = tensor_parallel_graph();
  g.roles[0].blocks[0].ops.assign(50, op_of(g, 0, 0));
  for (Op& op : g.roles[0].blocks[0].ops) {
    op.stream = 9;
  }
  EXPECT_EQ(validate(g).size(), 20u);
}

// Against brute force: all pairs of ops of two steps that touch the same elements, one of them writing, with no path
// between them over streams, `after` and events.
bool has_race(const PlanGraph& g) {
  const std::vector<Op>& ops = g.roles[0].blocks[0].ops;
  const std::size_t n = ops.size();
  std::vector<std::vector<bool>> before(2 * n, std::vector<bool>(2 * n));  // before[j][i]: i happens before j
  std::ptrdiff_t record = -1;
  std::vector<std::ptrdiff_t> stream_last(3, -1);
  for (std::size_t j = 0; j < 2 * n; ++j) {
    const Op& op = ops[j % n];
    std::vector<std::ptrdiff_t> direct = {stream_last[static_cast<std::size_t>(op.stream)]};
    for (const std::uint16_t a : op.after) {
      direct.push_back(static_cast<std::ptrdiff_t>(j / n * n + a));
    }
    if (!op.waits.empty()) {
      direct.push_back(record);
    }
    for (const std::ptrdiff_t d : direct) {
      for (std::size_t i = 0; d >= 0 && i < 2 * n; ++i) {
        before[j][i] = before[j][i] || before[static_cast<std::size_t>(d)][i] || i == static_cast<std::size_t>(d);
      }
    }
    stream_last[static_cast<std::size_t>(op.stream)] = static_cast<std::ptrdiff_t>(j);
    record = op.records.empty() ? record : static_cast<std::ptrdiff_t>(j);
  }
  const auto overlap = [](const Operand& a, const Operand& b) {
    return a.offset < b.offset + b.elements && b.offset < a.offset + a.elements;
  };
  for (std::size_t j = 0; j < 2 * n; ++j) {
    for (std::size_t i = 0; i < j; ++i) {
      const Op &x = ops[i % n], &y = ops[j % n];
      const bool conflict = overlap(x.writes[0], y.reads[0]) || overlap(x.writes[0], y.reads[1]) ||
                            overlap(x.reads[0], y.writes[0]) || overlap(x.reads[1], y.writes[0]);
      if (conflict && !before[j][i]) {
        return true;
      }
    }
  }
  return false;
}

TEST(Validate, FindsRacesExactlyWhereBruteForceDoes) {
  int races = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const PlanGraph g = random_graph(seed, 1 + static_cast<int>(seed % 9));
    const Lines lines = validate(g);
    EXPECT_EQ(!lines.empty(), has_race(g)) << "seed " << seed << ": " << ::testing::PrintToString(lines);
    races += lines.empty() ? 0 : 1;
  }
  EXPECT_GT(races, 200);  // the grid has both
  EXPECT_LT(races, 1800);
}

// Edits of graphs that jobs are built into.
TEST(Validate, FindsEditsOfBuiltGraphs) {
  const PlanGraph good = build(foretrain::testing::tiny_job(foretrain::testing::kTinyGpt, {"pp=2", "dp=2"}));
  ASSERT_EQ(validate(good), Lines{});
  // Two microbatches of one stage change places: their messages cross.
  EXPECT_NE(after(good,
                  [](PlanGraph& g) {
                    std::vector<Instance>& body = g.roles[0].program.body;
                    const auto first =
                        std::find_if(body.begin(), body.end(), [](const Instance& i) { return i.microbatch == 0; });
                    const auto second =
                        std::find_if(body.begin(), body.end(), [](const Instance& i) { return i.microbatch == 1; });
                    std::swap(first->microbatch, second->microbatch);
                  }),
            Lines{});
  // No op waits for an event any more.
  EXPECT_NE(after(good,
                  [](PlanGraph& g) {
                    for (Role& role : g.roles) {
                      for (Block& block : role.blocks) {
                        for (Op& op : block.ops) {
                          op.waits.clear();
                        }
                      }
                    }
                  }),
            Lines{});
  // The last instance is gone on one stage: its gradients are reduced with nobody.
  EXPECT_NE(after(good, [](PlanGraph& g) { g.roles[1].program.body.pop_back(); }), Lines{});
  // Every slot is the first: a microbatch's activations are overwritten before its backward.
  EXPECT_NE(after(good,
                  [](PlanGraph& g) {
                    for (Instance& i : g.roles[0].program.body) {
                      i.slot = std::min(i.slot, 0);
                    }
                  }),
            Lines{});
}

}  // namespace
}  // namespace foretrain::plan
