#include "plan/dump.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/support/message_of.h"
#include "tests/support/tiny_graphs.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using foretrain::test::message_of;
using foretrain::testing::pipeline_graph;
using foretrain::testing::tensor_parallel_graph;

TEST(DumpText, ShowsEveryOpOnceAndProgramsAsLists) {
  EXPECT_EQ(
      to_text(pipeline_graph()),
      R"(graph pipeline: 2 ranks, pp 2 x dp 1 x cp 1 x tp 1 (slowest first), 2 microbatches, 2 sequences x 4 tokens, 0 tensors

role stage 0: 1 of 2 ranks at pp 0, layers [], 0 slots, 0 holds, 0 rings, arena 64 B
  streams: compute (compute), act_out (point_to_point over pp)
  events: sent (once)
  buffers
    x: 8 fp32, activation, persistent at byte 0
  block produce
      0 compute, forward: fill 8 fp32
        writes x[0,8)
        waits for sent
      1 act_out, forward: send 8 fp32 to pp 1 as act
        reads x[0,8)
        after 0
        records sent
  segment F0: produce
  body: F0(0) F0(1)

role stage 1: 1 of 2 ranks at pp 1, layers [], 0 slots, 0 holds, 2 rings, arena 192 B
  streams: compute (compute), act_in (point_to_point over pp)
  events: read (per_ring)
  buffers
    x: 8 fp32, communication, ring at byte 64
    sum: 8 fp32, activation, persistent at byte 0
  block consume
      0 act_in, forward: recv 8 fp32 from pp 0 as act
        writes x[0,8)
        waits for read
      1 compute, forward: accumulate 8 fp32
        reads x[0,8), sum[0,8)
        writes sum[0,8)
        after 0
        records read
  segment F0: consume
  body: F0(0) F0(1)
)");
}

TEST(DumpText, LayersRepeatInCalls) {
  const std::string text = to_text(build(foretrain::testing::tiny_job(foretrain::testing::kTinyGpt, {"pp=2", "tp=2"})));
  EXPECT_NE(text.find("layer.forward at layers 0 to 1"), std::string::npos);
  EXPECT_NE(text.find("layer.backward at layers 1 to 0"), std::string::npos);
  EXPECT_NE(text.find("group tp: over tp\n"), std::string::npos);
  EXPECT_NE(text.find("x(layer+1)[0,"), std::string::npos);
}

TEST(DumpDot, StreamsAreDottedAndDependenciesPlain) {
  EXPECT_EQ(to_dot(tensor_parallel_graph(), 0), R"(digraph "all" {
  node [shape=box, style=filled];
  subgraph cluster_0 {
    label="layer";
    b0_0 [label="matmul 4x4x4 fp32 -> fp32", fillcolor=lightblue];
    b0_1 [label="all_reduce 16 fp32 over tp as sum", fillcolor=lightsalmon];
    b0_0 -> b0_1;
    b0_2 [label="activation.forward relu 4x4 fp32", fillcolor=lightblue];
    b0_0 -> b0_2 [style=dotted];
    b0_1 -> b0_2;
  }
}
)");
}

TEST(Describe, NamesRoleInstanceLayerAndShapes) {
  PlanGraph g = tensor_parallel_graph();
  EXPECT_EQ(describe(g, {0, 0, 0}), "all, F0 mb 0, matmul 4x4x4 fp32 -> fp32 (forward)");
  g.roles[0].global_layer = {7, 8, 9};
  g.roles[0].segments[0].calls[0] = {0, 3, 2, -1};  // layers 9, 8, 7
  EXPECT_EQ(describe(g, {0, 0, 4}), "all, F0 mb 0, layer 8, all_reduce 16 fp32 over tp as sum (forward)");
  EXPECT_EQ(describe(g, {0, 0, 9}), "no op 0.0.9");
  EXPECT_EQ(describe(g, {1, 0, 0}), "no op 1.0.0");
  EXPECT_EQ(describe(g, {0, -1, 0}), "no op 0.-1.0");
}

TEST(GraphJson, ComesBackEqual) {
  std::vector<PlanGraph> graphs = {tensor_parallel_graph(), pipeline_graph(), foretrain::testing::random_graph(1, 9)};
  for (const char* text : {foretrain::testing::kTinyGpt, foretrain::testing::kTinyLlama}) {
    for (const std::vector<std::string>& overrides :
         std::vector<std::vector<std::string>>{{},
                                               {"pp=2", "tp=2", "sequence_parallel=true"},
                                               {"dp=2", "zero=1"},
                                               {"dp=4", "zero=3", "shard=2"},
                                               {"precision=bf16", "optimizer=sgd"},
                                               {"attention=unfused", "recompute=selective"}}) {
      graphs.push_back(build(foretrain::testing::tiny_job(text, overrides)));
    }
  }
  graphs.push_back(
      build(foretrain::testing::tiny_job(foretrain::testing::kTinyMoe, {"dp=2", "ep=2", "recompute=full"})));
  for (const PlanGraph& g : graphs) {
    const std::string text = to_json(g);
    const PlanGraph back = graph_from_json(text, "g.json");
    EXPECT_EQ(to_json(back), text);
    EXPECT_EQ(to_text(back), to_text(g));
    EXPECT_EQ(validate(back), validate(g));
  }
}

// What no builder uses yet must come back as well.
TEST(GraphJson, HoldsEveryKindOfOp) {
  PlanGraph g = tensor_parallel_graph();
  std::vector<Op>& ops = g.roles[0].blocks[0].ops;
  const auto add = [&](Work w) { ops.push_back(foretrain::testing::op(std::move(w), 0, {}, {})); };
  add(Join{}), add(plan::Attention{}), add(plan::Norm{}), add(ResidualAdd{}), add(BiasGradient{}), add(Rotary{});
  add(Embedding{}), add(PositionAdd{}), add(FirstTokens{}), add(CrossEntropy{}), add(SquaredNorm{}),
      add(ClipCoefficient{});
  add(OptimizerStep{}), add(Fill{}), add(Accumulate{}), add(Copy{CopyKind::host_to_device, 8});
  add(Host{HostTask::write_checkpoint, 1, 2}), add(SumParts{1, 2, true, Dtype::u8}),
      add(Channel{ChannelStep::release, 0, 1, 2, Dtype::nvfp4, 0, 3, true});
  add(AttentionSinks{}), add(RingAttention{RingStep::attend_backward}),
      add(RingAttention{RingStep::attend_all_backward}), add(Reshard{ReshardStep::join_heads, 1, 2, 3, 4, 5, 6});
  add(Gate{}), add(Route{RouteStep::arrange, 1, 2, 1, 3}), add(Permute{}), add(GroupedMatmul{}),
      add(ExpertActivation{}), add(ExpertBias{}),
      add(OutputLoss{Direction::backward_input, workloads::Loss::cross_entropy, 1, 2}), add(LambUpdate{}),
      add(LossScale{LossScaleStep::update}), add(Cast{1, Dtype::fp32, Dtype::fp16});
  add(Encode{{Coding::top_k, 9, 2, Dtype::fp64}, Dtype::fp64}), add(Decode{{}, 3, Dtype::bf16});
  add(OuterStep{8, 2, {OuterKind::sgd, 0.5, 0.1}, Dtype::fp64, Dtype::fp64, Dtype::bf16, true});
  add(foretrain::testing::message(true, 1, 3, 0));
  ops.back().guard = Guard{foretrain::testing::whole(1, 1)};
  ops.back().runtime_extent = 0;
  g.runtime_extents = {{"tokens", 100, "count", 0.1, 1e-300, 0}};
  g.groups.push_back({"uneven", {{Axis::dp, 2, {}}, {Axis::pp, 0, {0}}}, {0.25, 0.75}});
  const std::string text = to_json(g);
  const PlanGraph back = graph_from_json(text, "g.json");
  EXPECT_EQ(to_json(back), text);
  ASSERT_EQ(back.roles[0].blocks[0].ops.size(), ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    EXPECT_EQ(back.roles[0].blocks[0].ops[i].work.index(), ops[i].work.index()) << i;
  }
  EXPECT_EQ(back.runtime_extents[0].stddev, 1e-300);
}

TEST(GraphJson, SaysWhatIsWrong) {
  const std::string good = to_json(tensor_parallel_graph());
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return message_of([&] { graph_from_json(text, "g.json"); });
  };
  EXPECT_EQ(message_of([&] { graph_from_json("[]", "g.json"); }),
            "g.json: /: \"schema\" is null; expected \"foretrain.graph/1\"");
  EXPECT_EQ(message_of([&] { graph_from_json("{", "g.json"); }).substr(0, 24), "g.json:1: not valid JSON");
  EXPECT_EQ(changed("\"extent\": [\n   1,", "\"extent\": [\n   0,"),
            "g.json: /: /mesh/extent: expected integers from 1 on with a product of at most 16777216");
  EXPECT_EQ(changed("\"tags\"", "\"tagz\""), "g.json: /: \"tags\" is missing");
  EXPECT_EQ(
      changed("\"m\": 4", "\"m\": \"4\""),
      "g.json: /roles/0/blocks/0/ops/0/work/m: \"4\" is not allowed; expected an integer from -9223372036854775808 to "
      "9223372036854775807");
  EXPECT_EQ(changed("\"stream\": 0", "\"stream\": 300"),
            "g.json: /roles/0/blocks/0/ops/0/stream: 300 is not allowed; expected an integer from -128 to 127");
  EXPECT_EQ(changed("\"op\": \"matmul\"", "\"op\": \"matmull\"").substr(0, 83),
            "g.json: /roles/0/blocks/0/ops/0/work: \"op\" is \"matmull\"; expected one of join, matm");
  EXPECT_EQ(
      changed("\"lifetime\": \"block\"", "\"lifetime\": \"forever\""),
      "g.json: /roles/0/buffers/2/lifetime: \"forever\" is not allowed; expected one of persistent, slot, hold, ring, "
      "segment, "
      "block");
  EXPECT_EQ(changed("\"trans_a\": false", "\"trans_a\": 0"),
            "g.json: /roles/0/blocks/0/ops/0/work/trans_a: 0 is not allowed; expected true or false");
  EXPECT_EQ(changed("\"chunk\": 0", "\"chunk\": 0, \"colour\": 1"),
            "g.json: /roles/0/segments/0: unknown key \"colour\"; known: name, chunk, first_layer, calls, "
            "beside_chunk, beside_first_layer");
  EXPECT_EQ(changed("\"pp\",", "\"tp\","),
            "g.json: /: /mesh/order names an axis twice; expected each of pp, dp, cp, tp once");
}

}  // namespace
}  // namespace foretrain::plan
