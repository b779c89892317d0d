// What replicas exchange, as it stands in the graph.
#include <gtest/gtest.h>

#include <map>

#include "plan/build.h"
#include "plan/cursor.h"
#include "plan/validate.h"
#include "plan/work.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using Words = std::vector<std::string>;

// Ops of a step of the first role, by kind.
std::map<std::string, std::vector<Op>> ops_of(const PlanGraph& g, std::int32_t step = 0) {
  std::map<std::string, std::vector<Op>> ops;
  for (ProgramCursor c(g.roles[0], 0, g.roles[0].program.body, first_body_instance(g.roles[0].program), step); c;
       c.next()) {
    ops[kind_name(c.op().work)].push_back(c.op());
  }
  return ops;
}

std::int64_t bytes_of(const Role& role, BufferKind kind, const std::string& what) {
  std::int64_t sum = 0;
  for (const Buffer& b : role.buffers) {
    if (b.kind == kind && b.name.find(what) != std::string::npos) {
      sum += size_bytes(b.dtype, b.elements) * std::max(1, b.layers);
    }
  }
  return sum;
}

PlanGraph graph(const Words& words) {
  Words all{"precision=fp32", "dp=2"};
  all.insert(all.end(), words.begin(), words.end());
  PlanGraph g = build(testing::tiny_job(testing::kTinyGpt, all));
  EXPECT_EQ(validate(g), Words{});
  return g;
}

// Four bytes for each gradient in one all-reduce; two in 16 bits; one and four for every 256 in 8 bits, of which all
// ranks get those of both.
TEST(Compression, SendsFewerBytes) {
  std::int64_t gradients = 0;
  const auto plain = ops_of(graph({}));
  for (const Op& op : plain.at("all_reduce")) {
    gradients += std::get<Collective>(op.work).dtype == Dtype::fp32 ? work(op).sent.value : 0;
  }
  for (const char* const kind : {"fp16", "bf16"}) {
    const PlanGraph g = graph({std::string("compression=") + kind});
    const auto rounded = ops_of(g);
    std::int64_t sent = 0;
    for (const Op& op : rounded.at("all_reduce")) {
      sent += bits(std::get<Collective>(op.work).dtype) == 16 ? work(op).sent.value : 0;
    }
    EXPECT_EQ(sent, gradients / 2) << kind;
    EXPECT_EQ(rounded.at("cast").size(), 6u) << kind;  // head, layers and embedding, there and back
    EXPECT_EQ(bytes_of(g.roles[0], BufferKind::communication, "code"), gradients / 2) << kind;
  }
  const PlanGraph g = graph({"compression=int8"});
  const auto ops = ops_of(g);
  std::int64_t sent = 0, coded = 0;
  for (const Op& op : ops.at("all_gather")) {
    sent += work(op).sent.value;
  }
  for (const Op& op : ops.at("encode.int8")) {
    const Code& code = std::get<Encode>(op.work).code;
    EXPECT_GE(code.bytes(), code.elements + (code.elements + 255) / 256 * 4);
    EXPECT_LT(code.bytes(), code.elements + (code.elements + 255) / 256 * 4 + 16);
    coded += code.elements;
    EXPECT_EQ(op.stream, kCompute);
  }
  for (const Op& op : ops.at("decode.int8")) {
    EXPECT_EQ(std::get<Decode>(op.work).parts, 2);
    EXPECT_NE(op.stream, kCompute);
  }
  EXPECT_EQ(coded, gradients / 4);
  EXPECT_NEAR(static_cast<double>(sent), 2 * (1 + 4.0 / 256) * static_cast<double>(coded), 2 * 3 * (16 + 4));
  EXPECT_EQ(bytes_of(g.roles[0], BufferKind::optimizer_state, "residual"), gradients);
}

// Of each layer the share rounded up, in pairs of 4 + 4 bytes; all of a family's layers in one bucket here.
TEST(Compression, TopKKeepsAShareOfEachLayer) {
  const PlanGraph g = graph({"compression=topk:0.01"});
  std::map<std::int64_t, std::int64_t> kept;  // by elements
  for (const ParameterFamily& f : g.roles[0].parameter_families) {
    const std::int64_t layers = std::max(1, f.layers);
    kept[layers * f.elements] = layers * ((f.elements + 99) / 100);
  }
  const auto ops = ops_of(g);
  std::map<std::int64_t, std::int64_t> coded;
  for (const Op& op : ops.at("encode.top_k")) {
    const Code& code = std::get<Encode>(op.work).code;
    coded[code.elements] = code.kept;
    EXPECT_EQ(code.bytes(), (8 * code.kept + 15) / 16 * 16);
  }
  EXPECT_EQ(coded, kept);
}

// A tensor of integers has no magnitudes to code.
TEST(Compression, OfIntegersIsRefused) {
  PlanGraph g = graph({"compression=int8"});
  for (Block& block : g.roles[0].blocks) {
    for (Op& op : block.ops) {
      if (auto* encode = std::get_if<Encode>(&op.work)) {
        encode->dtype = Dtype::i32;
      }
    }
  }
  EXPECT_NE(validate(g).at(0).find(" i32 values in fp32, of which 0 are kept; expected up to 2^32 of fp64"),
            std::string::npos)
      << validate(g).at(0);
}

// A plain step sums no gradients and averages nothing; the last of three sums all weights over both replicas.
TEST(LocalSgd, AveragesInTheLastStepOfThree) {
  const PlanGraph g = graph({"data_parallel=local_sgd", "average_every=3"});
  EXPECT_EQ(period(g), 3);
  const auto is_large = [](const Op& op) { return std::get<Collective>(op.work).elements > 1; };
  for (const std::int32_t step : {0, 1, 3, 4}) {
    const auto ops = ops_of(g, step);
    EXPECT_EQ(ops.count("outer_step.average"), 0u);
    EXPECT_TRUE(std::none_of(ops.at("all_reduce").begin(), ops.at("all_reduce").end(), is_large)) << step;
  }
  std::int64_t weights = 0, summed = 0;
  for (const ParameterFamily& f : g.roles[0].parameter_families) {
    weights += f.elements * std::max(1, f.layers);
  }
  const auto ops = ops_of(g, 5);
  for (const Op& op : ops.at("all_reduce")) {
    summed += is_large(op) ? std::get<Collective>(op.work).elements : 0;
  }
  EXPECT_EQ(summed, weights);
  for (const Op& op : ops.at("outer_step.average")) {
    EXPECT_EQ(std::get<OuterStep>(op.work).replicas, 2);
    weights -= std::get<OuterStep>(op.work).elements;
  }
  EXPECT_EQ(weights, 0);
}

// A gradient is the mean over what its replica has of the batch, a loss the share of the whole batch's.
TEST(LocalSgd, ScalesGradientsByReplica) {
  const auto scale = [](const PlanGraph& g, const char* kind) {
    return std::get<CrossEntropy>(ops_of(g).at(kind).front().work).scale;
  };
  const PlanGraph all = graph({"dp=4"}), local = graph({"dp=4", "data_parallel=local_sgd", "local_group=2"});
  EXPECT_EQ(scale(local, "cross_entropy.backward"), 2 * scale(all, "cross_entropy.backward"));
  EXPECT_EQ(scale(local, "cross_entropy.combine"), scale(all, "cross_entropy.combine"));
}

// Anchor and momentum are of every parameter, in the type of its master weights; all begins at the anchor.
TEST(LocalSgd, TheOuterOptimizerHasStateOfItsOwn) {
  const Words outer{"data_parallel=local_sgd", "precision=bf16", R"(outer_optimizer={"kind":"nesterov"})"};
  const PlanGraph g = graph(outer);
  const Role& role = g.roles[0];
  EXPECT_EQ(bytes_of(role, BufferKind::optimizer_state, ".anchor"),
            bytes_of(role, BufferKind::optimizer_state, ".master"));
  EXPECT_EQ(bytes_of(role, BufferKind::optimizer_state, ".outer_momentum"),
            bytes_of(role, BufferKind::optimizer_state, ".master"));
  ASSERT_EQ(role.program.prologue.size(), 1u);
  EXPECT_TRUE(graph({"data_parallel=local_sgd"}).roles[0].program.prologue.empty());
}

// One replica has nobody to average with: the same graph as without.
TEST(LocalSgd, OfOneReplicaIsAllReduce) {
  const PlanGraph g = graph({"data_parallel=local_sgd", "local_group=2", "average_every=3"});
  EXPECT_EQ(period(g), 1);
  EXPECT_EQ(ops_of(g).at("all_reduce").size(), ops_of(graph({})).at("all_reduce").size());
}

}  // namespace
}  // namespace foretrain::plan
