#include "plan/build.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "plan/cursor.h"
#include "plan/dump.h"
#include "plan/validate.h"
#include "plan/work.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using testing::kTinyBert;
using testing::kTinyClassifier;
using testing::kTinyGpt;
using testing::kTinyLlama;
using testing::kTinyT5;
using testing::tiny_job;

using Overrides = std::vector<std::string>;

void expect_valid(const char* text, const Overrides& overrides) {
  const PlanGraph g = build(tiny_job(text, overrides));
  EXPECT_EQ(validate(g), std::vector<std::string>{}) << ::testing::PrintToString(overrides);
}

TEST(Build, WithoutPlacesAllElseIsTheSame) {
  for (const Overrides& overrides : {Overrides{}, {"pp=4"}, {"dp=4", "data_parallel=parameter_server", "servers=2"}}) {
    const Job job = tiny_job(kTinyGpt, overrides);
    PlanGraph g = build(job);
    for (Role& role : g.roles) {
      EXPECT_GT(role.memory.arena, Bytes{});
      role.memory = {};
    }
    EXPECT_EQ(to_json(build_unplaced(job)), to_json(g));
  }
}

TEST(Build, EveryStrategyGivesAValidGraph) {
  const std::vector<Overrides> strategies = {
      {},
      {"dp=2"},
      {"dp=2", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
      {"dp=2", "zero=1"},
      {"dp=2", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true", "bucket_bytes=200 kB"},
      {"tp=2"},
      {"tp=2", "sequence_parallel=true"},
      {"tp=2", "overlap_tp=false"},
      {"tp=2", "sequence_parallel=true", "overlap_tp=false"},
      {"tp=2", "pp=2", "schedule=zb_h1", "overlap_tp=false", "sequence_parallel=true"},
      {"tp=2", "pp=2", "scatter_gather=true"},
      {"tp=2", "pp=4", "scatter_gather=true", "layers_per_stage=[0,4,0,0]"},
      {"tp=2", "pp=2", "scatter_gather=true", "schedule=zb_v", "recompute=full"},
      {"recompute=full", "recompute_early_stop=true", "tp=2", "pp=2", "schedule=zb_h1"},
      {"fused_grad_accumulation=false"},
      {"fused_activation=true"},
      {"fused_activation=true", "tp=2", "pp=2", "schedule=zb_h2"},
      {"fused_grad_accumulation=false", "tp=2", "pp=2", "schedule=zb_h2", "dp=2", "zero=1"},
      {"tp=4"},  // more tp ranks than kv heads of the llama
      {"tp=4", "sequence_parallel=true"},
      {"pp=2"},
      {"pp=4"},
      {"pp=3"},  // uneven: 1, 2, 1 layers
      {"pp=2", "schedule=gpipe"},
      {"pp=2", "schedule=interleaved", "virtual_stages=2"},
      {"pp=4", "layers_per_stage=[0,4,0,0]"},  // the embedding alone, the head alone, and nothing
      {"pp=3", "layers_per_stage=[0,4,0]", "schedule=zb_h1"},
      {"pp=3", "layers_per_stage=[0,4,0]", "tp=4", "sequence_parallel=true"},
      {"pp=2", "virtual_stages=2", "layers_per_stage=[2,0,0,2]"},  // one slot passes on, and then runs layers
      {"pp=2", "schedule=zb_v", "layers_per_stage=[0,3,0,1]"},
      {"pp=2", "schedule=zb_h1"},
      {"pp=4", "schedule=zb_h2", "tp=2", "sequence_parallel=true"},
      {"pp=2", "schedule=zb_v", "dp=2", "zero=1", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
      {"pp=2", "schedule=zb_v", "tp=2", "sequence_parallel=true", "recompute=full"},
      {"pp=2", "schedule=dualpipe_v", "tp=2", "sequence_parallel=true", "recompute=full"},
      {"pp=2", "schedule=dualpipe", "dp=2", "zero=1", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
      {"pp=4", "schedule=dualpipe", "tp=2", "sequence_parallel=true", "recompute=full"},
      {"recompute=full"},
      {"recompute=full", "recompute_layers=1"},
      {"offload=[\"optimizer\"]", "dp=2", "zero=2", "pp=2"},
      {"offload=[\"activations\"]"},
      {"pp=4", "schedule=zb_h2", "optimizer_sync=post_validation", "workload.optimizer={\"name\":\"adam\",\"clip\":0}"},
      {"offload=[\"activations\"]", "pp=2", "offload_layers=1", "dp=2", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
      {"offload=[\"activations\"]", "pp=2", "virtual_stages=2", "recompute=full"},
      {"recompute=full", "recompute_layers=[1,0]", "pp=2", "schedule=zb_h2", "tp=2", "sequence_parallel=true"},
      {"recompute=selective", "attention=fused_softmax"},
      {"attention=unfused", "recompute=selective"},
      {"micro_batch=2"},
      {"dp=2", "tp=2", "pp=2", "zero=1", "sequence_parallel=true", "recompute=full", "overlap_grad_reduce=true"},
      {"dp=2", "tp=2", "pp=2", "schedule=interleaved", "virtual_stages=2", "overlap_grad_reduce=true",
       "rank_order=\"tp,pp,dp,cp\""},
  };
  for (const Overrides& s : strategies) {
    expect_valid(kTinyGpt, s);
    expect_valid(kTinyLlama, s);
    expect_valid(kTinyBert, s);
    if (!std::any_of(s.begin(), s.end(), [](const std::string& word) {
          return word.starts_with("cp") || word.starts_with("attention=");
        })) {
      expect_valid(kTinyClassifier, s);
    }
  }
}

TEST(Build, AnEncoderAndDecoderGivesAValidGraph) {
  for (const Overrides& s : std::vector<Overrides>{
           {},
           {"dp=2", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
           {"dp=2", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true"},
           {"dp=2", "zero=2", "tp=2"},
           {"dp=4", "zero=3", "shard=2"},
           {"dp=2", "zero=3", "workload.model.tied_embeddings=false"},
           {"tp=2", "sequence_parallel=true", "recompute=full"},
           {"tp=4", "micro_batch=2"},
           {"workload.model.norm=layernorm", "workload.model.positions=learned", "tp=2", "sequence_parallel=true"}}) {
    expect_valid(kTinyT5, s);
  }
}

// Every parameter is stored once per replica: local elements of the slices that count, over all ranks of one dp
// replica, add up to the model's parameters plus the vocabulary's padding rows.
std::int64_t stored_parameters(const PlanGraph& g, int tp) {
  std::int64_t total = 0;
  for (const Role& role : g.roles) {
    for (const ParameterFamily& f : role.parameter_families) {
      for (const Parameter& p : f.parameters) {
        for (int t = 0; p.counted && t < tp; ++t) {
          for (const Slice& s : p.slices[static_cast<std::size_t>(t)]) {
            total += s.replica == 0 ? s.rows * p.cols * std::max(1, f.layers) : 0;
          }
        }
      }
    }
  }
  return total;
}

TEST(Build, ParametersAreStoredOncePerReplica) {
  for (const Overrides& s : std::vector<Overrides>{
           {}, {"tp=2"}, {"tp=4"}, {"pp=2"}, {"pp=3"}, {"tp=2", "pp=2"}, {"pp=2", "schedule=zb_v"}}) {
    for (const char* text : {kTinyGpt, kTinyLlama, kTinyBert, kTinyClassifier, kTinyT5}) {
      if (text == kTinyT5 && !s.empty() && s.back() != "tp=2" && s.back() != "tp=4") {
        continue;  // one stage
      }
      const Job job = tiny_job(text, s);
      const workloads::Model& m = job.workload.model;
      const std::int64_t tables = m.tied_embeddings || m.is_classifier() ? 1 : 2,
                         biases = m.head == workloads::Head::masked_lm ? 1 : 0;
      const std::int64_t padding = (padded_vocab(job) - m.vocab) * (m.hidden * tables + biases);
      EXPECT_EQ(stored_parameters(build(job), static_cast<int>(job.strategy.tp)),
                workloads::total_parameters(m) + padding)
          << ::testing::PrintToString(s);
    }
  }
}

// Matmuls of one layer, forward, per token: qkv 2·48·(48+2·48), out 2·48·48, up 2·48·80, down 2·80·48 = 13824 + 4608 +
// 7680 + 7680 = 33792; attention products 2 · 2·16·48 = 3072 (full square). Head: 2·48·128 = 12288. Backward doubles
// the matmuls; flash's backward has 5 products of 2·16·48 = 7680. Step: 128 tokens, 4 layers.
TEST(Build, MatmulFlopsMatchTheClosedForm) {
  const double tokens = 128;
  const double once = tokens * (4 * (3 * 33792.0 + 3072 + 7680) + 3 * 12288.0);
  for (const Overrides& s : std::vector<Overrides>{{},
                                                   {"dp=2"},
                                                   {"tp=2", "padded_vocab=128"},
                                                   {"pp=2"},
                                                   {"dp=2", "pp=2", "zero=1"},
                                                   {"pp=2", "schedule=zb_h1"},
                                                   {"pp=2", "schedule=zb_v"}}) {
    EXPECT_DOUBLE_EQ(matmul_flops_per_step(build(tiny_job(kTinyGpt, s))), once) << ::testing::PrintToString(s);
  }
  // Full recompute runs every layer's forward again.
  EXPECT_DOUBLE_EQ(matmul_flops_per_step(build(tiny_job(kTinyGpt, {"recompute=full"}))),
                   once + tokens * 4 * (33792.0 + 3072));
  // A masked-LM head has one product of 48 x 48 more.
  EXPECT_DOUBLE_EQ(matmul_flops_per_step(build(tiny_job(kTinyBert))), once + tokens * 3 * 2 * 48 * 48);
  // A classifier has of each of 8 sequences one token's product of 48 x 48 and one of 48 x 3, and none with the
  // vocabulary, of which 12288 FLOPs a token are.
  EXPECT_DOUBLE_EQ(matmul_flops_per_step(build(tiny_job(kTinyClassifier))),
                   once - tokens * 3 * 12288 + 8 * 3 * 2 * 48 * (48.0 + 3));
}

// An encoder's two layers have 16 tokens, a decoder's three 8: 33792 a token as above, and of cross attention 24 times
// 2·48·96 = 9216, q and projection of 8 and kv of 16; attention products of 2·16·16·48 = 24576, 2·8·8·48 = 6144 and
// 2·8·16·48 = 12288, two forward and five backward; head of 8 tokens. 8 sequences.
TEST(Build, MatmulFlopsOfAnEncoderAndDecoder) {
  const double products = 2 * 16 * 33792.0 + 3 * 8 * 33792.0 + 3 * 24 * 9216.0 + 8 * 12288.0;
  const double attention = 2 * 24576.0 + 3 * (6144.0 + 12288.0);
  for (const Overrides& s : std::vector<Overrides>{{}, {"dp=2", "zero=3"}, {"tp=2", "padded_vocab=128"}}) {
    EXPECT_DOUBLE_EQ(matmul_flops_per_step(build(tiny_job(kTinyT5, s))), 8 * (3 * products + 7 * attention));
  }
}

// Norms behind keep as much of a layer as norms before: both sums and what comes between, in place of both norms and
// that; statistics of two. Beyond it the embedding keeps its sum and statistics, the head its product and the
// activation of it. Rows of 16 tokens, 48 wide, in fp64: 6144 bytes, statistics 256.
TEST(Build, WhatAnEncoderKeeps) {
  const auto activations = [](const char* text) {
    return build(tiny_job(text)).roles[0].memory.by_kind[static_cast<int>(BufferKind::activation)].value;
  };
  EXPECT_EQ(activations(kTinyBert), activations(kTinyGpt) + 3 * 6144 + 256);
}

// What each rank sends in one step, by collective and stream name.
std::map<std::string, std::int64_t> collective_elements(const PlanGraph& g, int role_index) {
  std::map<std::string, std::int64_t> sums;
  const Role& role = g.roles[static_cast<std::size_t>(role_index)];
  for (ProgramCursor c(role, role_index, role.program.body, 0); c; c.next()) {
    if (const auto* op = std::get_if<Collective>(&c.op().work)) {
      sums[role.streams[static_cast<std::size_t>(c.op().stream)].name + "." + std::string(name(op->kind))] +=
          op->elements;
    }
  }
  return sums;
}

// Two all-reduces per layer forward and two backward, one for the embedding forward and one for the head's input
// gradient: (4·4 + 2) · 16·48 elements per microbatch of one sequence, 8 of them. Loss terms: all_gather of 3 values
// per token and rank: 3·16·2 per microbatch.
TEST(Build, TensorParallelTraffic) {
  const auto plain = collective_elements(build(tiny_job(kTinyGpt, {"tp=2"})), 0);
  EXPECT_EQ(plain.at("tp.all_reduce"), 18 * 16 * 48 * 8);
  EXPECT_EQ(plain.at("tp.all_gather"), 3 * 16 * 2 * 8);
  // With sequence parallelism every all-reduce is a reduce-scatter, and the gathers are: per layer 2 forward, 2 of
  // output gradients and 2 of inputs again; the head's input twice; the embedding's output gradient.
  const auto sharded = collective_elements(build(tiny_job(kTinyGpt, {"tp=2", "sequence_parallel=true"})), 0);
  EXPECT_EQ(sharded.at("tp.reduce_scatter"), 18 * 16 * 48 * 8);
  EXPECT_EQ(sharded.at("tp.all_gather"), ((6 * 4 + 3) * 16 * 48 + 3 * 16 * 2) * 8);
}

// ZeRO-1 keeps all gradients but 1/dp of the optimizer state; mixed precision: 2 + 4 bytes, and 12 / dp.
// Ops of the compute stream in a backward that run while something of the tp stream may still be under way, which they
// do not wait for.
int beside_tp(const PlanGraph& g) {
  int beside = 0;
  for (const Block& block : g.roles.at(0).blocks) {
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const Op& o = block.ops[i];
      if (std::holds_alternative<Collective>(o.work) && o.phase != Phase::grad_reduce) {
        open.push_back(i);
      } else if (o.stream == kCompute) {
        std::erase_if(open,
                      [&](std::size_t c) { return std::find(o.after.begin(), o.after.end(), c) != o.after.end(); });
        beside += !open.empty() && !std::holds_alternative<Join>(o.work) ? 1 : 0;
      }
    }
  }
  return beside;
}

// Beside the sum of an input gradient: the weight gradient of the head and of qkv and up. With sequence parallelism
// also the input gradients of out and down and of the head, beside the gather of their weight gradient's input, and
// qkv's and up's beside theirs. Blocks of the last microbatch have the same ops again.
TEST(Build, OverlapTpPutsWeightGradientsBesideCommunication) {
  EXPECT_EQ(beside_tp(build(tiny_job(kTinyLlama, {"tp=2"}))), 2 * 3);
  EXPECT_GT(beside_tp(build(tiny_job(kTinyLlama, {"tp=2", "sequence_parallel=true"}))), 2 * 3);
  for (const Overrides& s : std::vector<Overrides>{{"tp=2", "overlap_tp=false"},
                                                   {"tp=2", "sequence_parallel=true", "overlap_tp=false"},
                                                   {"tp=2", "pp=2", "schedule=zb_h1", "overlap_tp=false"},
                                                   {"overlap_tp=true"}}) {
    EXPECT_EQ(beside_tp(build(tiny_job(kTinyLlama, s))), 0) << ::testing::PrintToString(s);
  }
}

// Two stages, 8 microbatches of one sequence: 16·48 elements each way, of which a rank sends half; all_gather: the
// whole, once received forward or backward, and 3·16·2 terms of the loss on the last stage.
TEST(Build, ScatterGatherSendsPartsAndGathersThem) {
  const auto sent = [](const PlanGraph& g) {
    std::int64_t elements = 0;
    for (ProgramCursor c(g.roles[0], 0, g.roles[0].program.body, 0); c; c.next()) {
      if (const auto* op = std::get_if<Exchange>(&c.op().work); op != nullptr && op->messages[0].send) {
        elements += op->messages[0].elements;
      }
    }
    return elements;
  };
  const PlanGraph plain = build(tiny_job(kTinyGpt, {"tp=2", "pp=2"}));
  const PlanGraph parts = build(tiny_job(kTinyGpt, {"tp=2", "pp=2", "scatter_gather=true"}));
  EXPECT_EQ(sent(plain), 8 * 16 * 48);
  EXPECT_EQ(sent(parts), 8 * 16 * 48 / 2);
  EXPECT_FALSE(collective_elements(plain, 0).contains("tp.all_gather"));
  EXPECT_EQ(collective_elements(parts, 0).at("tp.all_gather"), 8 * 16 * 48);
  EXPECT_EQ(collective_elements(parts, 1).at("tp.all_gather"), 8 * 16 * 48 + 3 * 16 * 2 * 8);
  // Nothing to take apart: one rank, one stage, or rows that are parts already.
  for (const Overrides& s : std::vector<Overrides>{{"tp=2"}, {"pp=2"}, {"tp=2", "pp=2", "sequence_parallel=true"}}) {
    Overrides with = s;
    with.emplace_back("scatter_gather=true");
    EXPECT_EQ(collective_elements(build(tiny_job(kTinyGpt, with)), 0),
              collective_elements(build(tiny_job(kTinyGpt, s)), 0));
    EXPECT_EQ(sent(build(tiny_job(kTinyGpt, with))), sent(build(tiny_job(kTinyGpt, s))));
  }
}

// Each weight gradient in a pass of its own, in fp32 from bf16: 2 + 4 read and 4 written per parameter of a matmul
// (qkv 48·144, out 48·48, up and down 48·80 each in 4 layers, head 48·128), per microbatch.
TEST(Build, UnfusedGradientsAreAddedInAPassOfTheirOwn) {
  const PlanGraph g = build(tiny_job(kTinyGpt, {"fused_grad_accumulation=false", "precision=bf16"}));
  std::int64_t elements = 0;
  double read = 0, written = 0;
  for (ProgramCursor c(g.roles[0], 0, g.roles[0].program.body, 0); c; c.next()) {
    if (const auto* op = std::get_if<Accumulate>(&c.op().work); op != nullptr && op->from == Dtype::bf16) {
      elements += op->elements;
      read += static_cast<double>(work(c.op()).read.value);
      written += static_cast<double>(work(c.op()).written.value);
    }
    const auto* matmul = std::get_if<Matmul>(&c.op().work);
    EXPECT_FALSE(matmul != nullptr && matmul->accumulate);
  }
  EXPECT_EQ(elements, 8 * (4 * 48 * (144 + 48 + 80 + 80) + 48 * 128));
  EXPECT_EQ(read, 6.0 * static_cast<double>(elements));
  EXPECT_EQ(written, 4.0 * static_cast<double>(elements));
}

// gelu inside the products around it: no activations of their own, the gradient behind gelu nowhere.
TEST(Build, FusedActivationIsPartOfItsMatmuls) {
  const auto count = [](const PlanGraph& g, auto kind) {
    int n = 0;
    for (ProgramCursor c(g.roles[0], 0, g.roles[0].program.body, 0); c; c.next()) {
      n += kind(c.op().work) ? 1 : 0;
    }
    return n;
  };
  const auto is_activation = [](const Work& w) { return std::holds_alternative<Activation>(w); };
  const auto is = [](Epilogue e) {
    return [e](const Work& w) { return std::holds_alternative<Matmul>(w) && std::get<Matmul>(w).epilogue == e; };
  };
  const PlanGraph apart = build(tiny_job(kTinyGpt, {})), fused = build(tiny_job(kTinyGpt, {"fused_activation=true"}));
  const int activations = count(apart, is_activation);
  EXPECT_EQ(count(fused, is_activation), 0);
  EXPECT_EQ(count(fused, is(Epilogue::gelu)), activations / 2);
  EXPECT_EQ(count(fused, is(Epilogue::gelu_backward)), activations / 2);
  EXPECT_LE(fused.roles[0].memory.arena.value, apart.roles[0].memory.arena.value);
  EXPECT_EQ(count(build(tiny_job(kTinyLlama, {"fused_activation=true"})), is(Epilogue::gelu)), 0);
}

TEST(Build, ZeroOneShardsOptimizerState) {
  const auto bytes = [](const Overrides& s, BufferKind kind) {
    return build(tiny_job(kTinyLlama, s)).roles[0].memory.by_kind[static_cast<std::size_t>(kind)].value;
  };
  const Overrides zero0 = {"dp=4", "precision=bf16"}, zero1 = {"dp=4", "precision=bf16", "zero=1"};
  EXPECT_EQ(bytes(zero0, BufferKind::gradient), bytes(zero1, BufferKind::gradient));
  EXPECT_EQ(bytes(zero0, BufferKind::optimizer_state), 4 * bytes(zero1, BufferKind::optimizer_state));
  EXPECT_EQ(bytes(zero0, BufferKind::optimizer_state), 6 * bytes(zero0, BufferKind::parameter));
}

TEST(Build, BucketsCoverEveryLayerOnce) {
  for (const char* bucket : {"bucket_bytes=1 B", "bucket_bytes=300 kB", "bucket_bytes=100 MB"}) {
    const PlanGraph g = build(tiny_job(kTinyGpt, {"dp=2", "overlap_grad_reduce=true", bucket, "precision=fp32"}));
    const std::int64_t layer = g.roles[0].parameter_families[1].elements;
    std::int64_t reduced = 0;
    const Role& role = g.roles[0];
    for (ProgramCursor c(role, 0, role.program.body, 0); c; c.next()) {
      const auto* op = std::get_if<Collective>(&c.op().work);
      if (op != nullptr && g.tags[static_cast<std::size_t>(op->tag)] == "gradients.reduce.layer") {
        reduced += op->elements;
      }
    }
    EXPECT_EQ(reduced, 4 * layer) << bucket;
  }
}

// 1F1B holds pp - rank microbatches in flight; slots follow.
TEST(Build, SlotsFollowTheSchedule) {
  const PlanGraph g = build(tiny_job(kTinyGpt, {"pp=4"}));
  for (int stage = 0; stage < 4; ++stage) {
    EXPECT_EQ(g.roles[static_cast<std::size_t>(stage)].slots, 4 - stage);
  }
  EXPECT_EQ(build(tiny_job(kTinyGpt, {"pp=2", "schedule=gpipe"})).roles[1].slots, 8);
}

// Elements of one copy.
std::int64_t copy_elements(const Role& role, Lifetime lifetime) {
  std::int64_t sum = 0;
  for (const Buffer& b : role.buffers) {
    sum += b.lifetime == lifetime ? b.elements * std::max(1, b.layers) : 0;
  }
  return sum;
}

// 16 rows of hidden 48, qkv 144, ffn 80; two layers per rank. From F to W a layer holds its matmuls' inputs, two norms
// and the context of 48 and the activation of 80: 16 · 224; the head another norm. From I to W it keeps the gradients
// of their outputs, x' and x_mid 48, qkv 144, the MLP's first product 80: 16 · 320; a chunk's input has one more of 48,
// the logits 128. Rank r of H1 has 2 - r slots, 2 holds, r + 1 rings. With tp = 2 and sequence parallelism the norms
// are shards, context and activation halves; the gradients of x' and x_mid are kept as they were gathered, those of qkv
// and the MLP are halves, the residual's own is one shard, 8 · 48. Under full recompute inputs are there from I to W
// only.
TEST(Build, WhatWeightGradientsReadIsKept) {
  const std::int64_t inputs = 16 * (3 * 48 + 80), gradients = 16 * (2 * 48 + 144 + 80), row = 16 * 48,
                     logits = 16 * 128;
  const PlanGraph g = build(tiny_job(kTinyGpt, {"pp=2", "schedule=zb_h1"}));
  for (const int rank : {0, 1}) {
    const Role& role = g.roles[static_cast<std::size_t>(rank)];
    EXPECT_EQ(role.slots, 2 - rank);
    EXPECT_EQ(role.holds, 2);
    EXPECT_EQ(role.rings, rank + 1);
    EXPECT_EQ(copy_elements(role, Lifetime::hold), 2 * inputs + rank * row);
    EXPECT_EQ(copy_elements(role, Lifetime::ring), 2 * gradients + row + rank * logits);
  }
  const Role full = build(tiny_job(kTinyGpt, {"pp=2", "schedule=zb_h1", "recompute=full"})).roles[0];
  EXPECT_EQ(copy_elements(full, Lifetime::hold), 0);
  EXPECT_EQ(copy_elements(full, Lifetime::ring), 2 * (gradients + inputs) + row);
  const Role sharded =
      build(tiny_job(kTinyGpt, {"pp=2", "tp=2", "sequence_parallel=true", "schedule=zb_h1", "padded_vocab=128"}))
          .roles[1];
  EXPECT_EQ(copy_elements(sharded, Lifetime::hold), 2 * (2 * 8 * 48 + 16 * (24 + 40)) + 8 * 48);
  EXPECT_EQ(copy_elements(sharded, Lifetime::ring), 2 * 16 * (2 * 48 + 72 + 40) + 8 * 48 + logits / 2);
}

// AdamW of bf16: a master and two moments of 4 B for each element, the head's and the embedding's among them; rounded
// by chance two moments.
TEST(Build, StochasticRoundingHasNoMasters) {
  const Role with = build(tiny_job(kTinyGpt, {"precision=bf16"})).roles[0];
  const Role without =
      build(tiny_job(kTinyGpt, {"precision=bf16", R"(workload.optimizer={"rounding":"stochastic"})"})).roles[0];
  std::int64_t elements = 0;
  for (const ParameterFamily& f : without.parameter_families) {
    elements += f.elements * std::max(1, f.layers);
    EXPECT_EQ(f.master, -1);
  }
  const auto state = [](const Role& r) {
    return r.memory.by_kind[static_cast<std::size_t>(BufferKind::optimizer_state)];
  };
  EXPECT_EQ(state(with), Bytes{12 * elements});
  EXPECT_EQ(state(without), Bytes{8 * elements});
  EXPECT_EQ(with.memory.arena - without.memory.arena, Bytes{4 * elements});
}

// Of kTinyGpt's 4 layers, N recompute: N times the workspace of full recompute in FLOPs, and 4 - N copies of what a
// layer keeps. Matmuls of a layer run 3 times (forward, two gradients), recomputed ones 4 times.
TEST(Build, RecomputeOfSomeLayers) {
  const auto flops = [](const Overrides& o) { return matmul_flops_per_step(build(tiny_job(kTinyGpt, o))); };
  const double none = flops({}), full = flops({"recompute=full"});
  for (int n = 0; n <= 4; ++n) {
    const Overrides some{"recompute=full", "recompute_layers=" + std::to_string(n)};
    EXPECT_DOUBLE_EQ(flops(some), none + (full - none) * n / 4);
    const Role role = build(tiny_job(kTinyGpt, some)).roles[0];
    const auto qkv = std::find_if(role.buffers.begin(), role.buffers.end(),
                                  [](const Buffer& b) { return b.name == "qkv" && b.lifetime == Lifetime::slot; });
    ASSERT_EQ(qkv != role.buffers.end(), n < 4);
    if (n < 4) {
      EXPECT_EQ(qkv->layers, 4 - n);
    }
  }
  // The first ones: forward calls of the recomputing kind, then of the other.
  const Role role = build(tiny_job(kTinyGpt, {"recompute=full", "recompute_layers=3"})).roles[0];
  std::vector<std::tuple<std::string, int, int>> calls;
  for (const BlockCall& call : role.segments[1].calls) {
    if (const std::string& name = role.blocks[static_cast<std::size_t>(call.block)].name; name.starts_with("layer")) {
      calls.emplace_back(name, call.first, call.count);
    }
  }
  EXPECT_EQ(calls, (std::vector<std::tuple<std::string, int, int>>{{"layer.recomputed.forward", 0, 3},
                                                                   {"layer.forward", 3, 1}}));
}

// Behind the last weight gradients of its layer and no earlier: in the segment of the last W, after the layer's call.
TEST(Build, SplitBackwardsReduceBehindTheLastWeightGradient) {
  const PlanGraph g =
      build(tiny_job(kTinyGpt, {"dp=2", "pp=2", "schedule=zb_h1", "overlap_grad_reduce=true", "bucket_bytes=1 B"}));
  const Role& role = g.roles[0];
  int reduced = 0;
  for (const Segment& s : role.segments) {
    std::int32_t lowest = 2;  // layer whose weight gradients have been called
    for (const BlockCall& call : s.calls) {
      const std::string& block = role.blocks[static_cast<std::size_t>(call.block)].name;
      if (block.rfind("layer.backward.weight", 0) == 0) {
        lowest = call.first + (call.count - 1) * call.step;
      } else if (block == "gradients.reduce.layer") {
        EXPECT_EQ(s.name, "W0.last");
        EXPECT_EQ(call.first, lowest);
        ++reduced;
      }
    }
  }
  EXPECT_EQ(reduced, 2);
  EXPECT_EQ(role.segments[static_cast<std::size_t>(role.program.body[role.program.body.size() - 2].segment)].name,
            "W0.last");
}

TEST(Build, OneRankJobKeepsMicrobatchesAndPadding) {
  const Job one = one_rank_job(tiny_job(kTinyGpt, {"tp=2", "dp=2", "micro_batch=2", "zero=1"}));
  EXPECT_EQ(one.strategy.ranks(), 1);
  EXPECT_EQ(one.strategy.micro_batch, 2);
  EXPECT_EQ(one.microbatches(), 4);
  EXPECT_EQ(padded_vocab(one), 256);  // 128 x tp 2
}

// Rows of 16 tokens, 48 wide, in fp64: a norm's output is 16 * 48 * 8 = 6144 bytes and its statistics 16 * 2 * 8 = 256,
// two norms a layer; the activation 16 * 80 * 8 = 10240 and its input the same. Four layers.
TEST(Build, ListedModulesAreNotKept) {
  const auto activations = [](const char* recompute) {
    const PlanGraph g = build(testing::tiny_job(testing::kTinyGpt, {std::string("recompute=") + recompute}));
    EXPECT_EQ(validate(g), std::vector<std::string>{}) << recompute;
    return g.roles[0].memory.by_kind[static_cast<int>(BufferKind::activation)].value;
  };
  const std::int64_t all = activations("none");
  EXPECT_EQ(activations("[]"), all);
  EXPECT_EQ(activations(R"(["norm"])"), all - 4 * 2 * (6144 + 256));
  EXPECT_EQ(activations(R"(["activation"])"), all - 4 * 10240);
  EXPECT_EQ(activations(R"(["mlp"])"), all - 4 * 2 * 10240);
  EXPECT_EQ(activations(R"(["mlp", "norm"])"), all - 4 * 2 * (6144 + 256 + 10240));
  EXPECT_EQ(activations(R"(["attention_core"])"), all - 4 * 4 * 16 * 8);  // log-sum-exp of 4 heads
}

}  // namespace
}  // namespace foretrain::plan
