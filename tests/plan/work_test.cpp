#include "plan/work.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_graphs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::op;
using foretrain::testing::whole;

OpWork of(Work w) {
  return work(op(std::move(w), kCompute, {}, {}));
}

Matmul matmul(std::int64_t m, std::int64_t n, std::int64_t k, Dtype in, Dtype out) {
  Matmul w;
  w.m = m;
  w.n = n;
  w.k = k;
  w.in = in;
  w.out = out;
  return w;
}

TEST(Work, MatmulCountsEachOperandOnce) {
  Matmul w = matmul(3, 5, 7, Dtype::bf16, Dtype::fp32);
  OpWork x = of(w);
  EXPECT_EQ(x.flops, 210);         // 2 * 3 * 5 * 7
  EXPECT_EQ(x.read.value, 112);    // (21 + 35) * 2
  EXPECT_EQ(x.written.value, 60);  // 15 * 4
  EXPECT_TRUE(x.is_matmul);
  w.bias = w.accumulate = true;
  EXPECT_EQ(of(w).read.value, 112 + 10 + 60);  // bias 5 * 2, C 15 * 4
  EXPECT_EQ(of(matmul(0, 5, 7, Dtype::fp32, Dtype::fp32)).flops, 0);
}

Attention attention(AttentionStep step) {
  Attention w;
  w.step = step;
  w.batch = 2;
  w.seq = 4;
  w.heads = 6;
  w.kv_heads = 3;
  w.head_dim = 8;
  w.dtype = Dtype::bf16;
  return w;
}

TEST(Work, FlashTouchesItsOperandsOnly) {
  // One product over the full square: 2 * 2 * 6 * 4 * 4 * 8 = 3072. q: 2*4*6*8 = 384 elements, k and v 192 each.
  const OpWork forward = of(attention(AttentionStep::flash_forward));
  EXPECT_EQ(forward.flops, 2 * 3072);
  EXPECT_EQ(forward.read.value, (384 + 192 + 192) * 2);
  EXPECT_EQ(forward.written.value, 384 * 2 + 2 * 6 * 4 * 4);  // o, and lse in fp32
  const OpWork backward = of(attention(AttentionStep::flash_backward));
  EXPECT_EQ(backward.flops, 5 * 3072);
  EXPECT_EQ(backward.read.value, (384 + 768 + 384) * 2 + 192);  // do, qkv, o, lse
  EXPECT_EQ(backward.written.value, 768 * 2);
}

// Window 2 of 4: three quarters of the pairs. Unfused kernels compute and mask all.
TEST(Work, FlashComputesWhatAWindowShows) {
  Attention w = attention(AttentionStep::flash_forward);
  w.window = 2;
  EXPECT_EQ(of(w).flops, 2 * 3072 * 0.75);
  EXPECT_EQ(of(w).read.value, (384 + 192 + 192) * 2);
  w.step = AttentionStep::scores;
  EXPECT_EQ(of(w).flops, 3072);
}

// Documents of 3 in sequences of 4: of 16 pairs 9 and 1. With a window of 2 in them, 1 - 1/9 of the 9.
TEST(Work, FlashComputesWhatDocumentsShow) {
  Attention w = attention(AttentionStep::flash_forward);
  w.document = 3;
  EXPECT_DOUBLE_EQ(of(w).flops, 2 * 3072 * 10.0 / 16);
  w.window = 2;
  EXPECT_DOUBLE_EQ(of(w).flops, 2 * 3072 * 9.0 / 16);
  EXPECT_EQ(workloads::visible_share(0, 4, 4), 1);
  EXPECT_EQ(workloads::visible_share(0, 1, 4), 0.25);
}

// Two ranks of 4 tokens each: half of the square of 8, 4 * 3072, and keys and values of both.
TEST(Work, AShareOverAllKeys) {
  RingAttention w{RingStep::attend_all, {}, 2, 4, 6, 3, 8, kNoGroup, 2, 0, false, Dtype::bf16, 0, 8};
  EXPECT_EQ(of(w).flops, 2 * 3072 * 2);
  EXPECT_EQ(of(w).read.value, (384 + 2 * 384) * 2);
  EXPECT_EQ(of(w).written.value, 384 * 2 + 192);
  w.window = 4;
  EXPECT_EQ(of(w).flops, 2 * 3072 * 2 * 0.75);
  w.step = RingStep::attend_all_backward;
  EXPECT_EQ(of(w).flops, 5 * 3072 * 2 * 0.75);
  EXPECT_EQ(attention_of(w)->share, 0.5);
  EXPECT_EQ(attention_of(w)->whole.seq, 8);
  EXPECT_EQ(attention_of(w)->whole.window, 4);
  // Values of half the width: a forward has one product of each kind, a backward three and two.
  w.v_dim = 4;
  EXPECT_EQ(of(w).flops, 3.5 * 3072 * 2 * 0.75 + 0.5 * 3072 * 2 * 0.75);
  EXPECT_EQ(attention_of(w)->whole.v_dim(), 4);
}

// Without a mask every query attends to all of another's keys, which are read whole, and a share over all keys is one
// kernel.
TEST(Work, ARingWithoutAMask) {
  RingAttention w{RingStep::attend, {}, 2, 4, 6, 3, 8, kNoGroup, 2, 1, false, Dtype::bf16, 0, 8};
  EXPECT_EQ(of(w).read.value, (384 + 384) * 2 * 3 / 4);
  EXPECT_TRUE(attention_of(w)->whole.causal);
  w.causal = false;
  EXPECT_EQ(of(w).read.value, (384 + 384) * 2);
  EXPECT_FALSE(attention_of(w)->whole.causal);
  w.step = RingStep::attend_all;
  EXPECT_EQ(attention_of(w)->kernels, 1);
}

// 2 sequences of 8 tokens in chunks of 4, 3 heads of 5, state 7, 1 group: 16 tokens, 15 columns, states of 4 chunks 420
// and C B^T of 64 numbers in fp32.
TEST(Work, StateSpace) {
  StateSpace w{Direction::forward, 2, 8, 3, 5, 7, 1, 4, 4, Dtype::bf16};
  EXPECT_EQ(of(w).flops, 2 * 16 * 3 * 4 * 5 + 4 * 16 * 15 * 7 + 2 * 16 * 4 * 7);
  EXPECT_EQ(of(w).read.value, 16 * (6 * 15 + 5 * 7 + 3) * 2 + 2 * 420 * 4 + 64 * 4);
  EXPECT_EQ(of(w).written.value, 16 * (3 * 15 + 2 * 7) * 2 + 2 * 420 * 4 + 64 * 4);
  const double forward = of(w).flops;
  w.direction = Direction::backward_input;
  EXPECT_EQ(of(w).flops, 3 * forward);
}

// o of 2*4*6*8 = 384 in bf16 and lse of 48 in fp32, both ways; backward do, o and lse, and 6 gradients in fp32.
TEST(Work, Sinks) {
  AttentionSinks w{Direction::forward, 2, 4, 6, 8, kNoGroup, Dtype::bf16};
  EXPECT_EQ(of(w).read.value, 384 * 2 + 48 * 4);
  EXPECT_EQ(of(w).written.value, 384 * 2 + 48 * 4);
  w.direction = Direction::backward_weight;
  EXPECT_EQ(of(w).read.value, 2 * 384 * 2 + 48 * 4);
  EXPECT_EQ(of(w).written.value, 6 * 4);
}

TEST(Work, UnfusedStepsAddUpToTwoProductsForwardAndFourBackward) {
  double forward = 0, backward = 0;
  for (const AttentionStep s :
       {AttentionStep::scores, AttentionStep::scale_mask, AttentionStep::softmax, AttentionStep::context}) {
    forward += of(attention(s)).is_matmul ? of(attention(s)).flops : 0;
  }
  for (const AttentionStep s : {AttentionStep::context_backward, AttentionStep::softmax_backward,
                                AttentionStep::scale_backward, AttentionStep::scores_backward}) {
    backward += of(attention(s)).is_matmul ? of(attention(s)).flops : 0;
  }
  EXPECT_EQ(forward, 2 * 3072);
  EXPECT_EQ(backward, 4 * 3072);
  // Scores are 2 * 6 * 4 * 4 = 192 elements.
  EXPECT_EQ(of(attention(AttentionStep::softmax)).read.value, 192 * 2);
  EXPECT_EQ(of(attention(AttentionStep::softmax_backward)).read.value, 2 * 192 * 2);
  EXPECT_EQ(of(attention(AttentionStep::context_backward)).written.value, (192 + 192) * 2);  // dp, dv
}

TEST(Work, FusedPassesTouchMemoryOnce) {
  const auto bytes = [](AttentionStep s) { return (of(attention(s)).read + of(attention(s)).written).value; };
  EXPECT_EQ(bytes(AttentionStep::scale_mask_softmax) * 2,
            bytes(AttentionStep::scale_mask) + bytes(AttentionStep::softmax));
  EXPECT_EQ(bytes(AttentionStep::softmax_scale_backward), bytes(AttentionStep::softmax_backward));
}

TEST(Work, NormStatisticsAreWide) {
  Norm w;
  w.kind = workloads::Norm::layernorm;
  w.rows = 10;
  w.cols = 16;
  w.dtype = Dtype::bf16;
  EXPECT_EQ(of(w).read.value, (160 + 32) * 2);           // x, gain, bias
  EXPECT_EQ(of(w).written.value, 160 * 2 + 10 * 2 * 4);  // y, stats
  w.direction = Direction::backward_weight;
  EXPECT_EQ(of(w).written.value, 2 * 16 * 4);  // dgain, dbias in fp32
  w.direction = Direction::backward_input;
  EXPECT_EQ(of(w).read.value, 3 * 160 * 2 + 16 * 2 + 10 * 2 * 4);  // dy, x, base; gain; stats
  Op without_base;
  without_base.work = w;
  without_base.reads.resize(4);
  EXPECT_EQ(work(without_base).read.value, 2 * 160 * 2 + 16 * 2 + 10 * 2 * 4);
  w.direction = Direction::backward_weight;
  w.kind = workloads::Norm::rmsnorm;
  EXPECT_EQ(of(w).written.value, 16 * 4);
  w.dtype = Dtype::fp64;
  EXPECT_EQ(of(w).written.value, 16 * 8);
}

TEST(Work, GatedActivationsReadTwiceTheColumns) {
  plan::Activation w;
  w.kind = workloads::Activation::swiglu;
  w.rows = 4;
  w.cols = 8;
  EXPECT_EQ(of(w).read.value, 64 * 4);
  EXPECT_EQ(of(w).written.value, 32 * 4);
  w.direction = Direction::backward_input;
  EXPECT_EQ(of(w).read.value, (32 + 64) * 4);
  EXPECT_EQ(of(w).written.value, 64 * 4);
}

TEST(Work, OptimizerReadsTheMasterInsteadOfTheParameter) {
  OptimizerStep w;
  w.bucket.elements = 1000;
  w.bucket.shards = 4;
  w.optimizer.kind = workloads::OptimizerKind::adamw;
  w.precision = {"bf16", Dtype::bf16, Dtype::bf16, Dtype::fp32, Dtype::fp32};
  EXPECT_EQ(of(w).read.value, 250 * (4 + 12));     // gradient; master, m, v
  EXPECT_EQ(of(w).written.value, 250 * (12 + 2));  // master, m, v; parameter
  w.precision.rounding = workloads::Rounding::stochastic;
  EXPECT_EQ(of(w).read.value, 250 * (4 + 8 + 2));  // gradient; m, v; parameter
  EXPECT_EQ(of(w).written.value, 250 * (8 + 2));
  w.precision = {"fp32", Dtype::fp32, Dtype::fp32, Dtype::fp32, Dtype::fp32};
  w.optimizer.kind = workloads::OptimizerKind::sgd;
  EXPECT_EQ(of(w).read.value, 250 * 8);  // gradient, parameter
  EXPECT_EQ(of(w).written.value, 250 * 4);
}

TEST(Work, CommunicationSendsItsPayload) {
  Collective c = foretrain::testing::all_reduce(100, 0, 0);
  c.kind = CollectiveKind::all_gather;
  const OpWork w = work(op(c, 1, {whole(0, 25)}, {whole(1, 100)}));
  EXPECT_EQ(w.sent.value, 400);
  EXPECT_EQ(w.read.value, 100);
  EXPECT_EQ(w.written.value, 400);
  Exchange e = foretrain::testing::message(true, 1, 10, 0);
  e.messages.push_back({false, Axis::pp, 0, 20, Dtype::fp64, 0});
  EXPECT_EQ(of(e).sent.value, 40);
  EXPECT_EQ(of(e).read.value, 40);
  EXPECT_EQ(of(e).written.value, 160);
}

TEST(Work, OfAStepCountsEveryRankAndLayer) {
  // 2 ranks * 1 instance * 1 matmul of 2 * 4 * 4 * 4.
  PlanGraph g = foretrain::testing::tensor_parallel_graph();
  EXPECT_EQ(matmul_flops_per_step(g), 256);
  g.roles[0].segments[0].calls[0].count = 3;
  g.roles[0].program.body.push_back(g.roles[0].program.body[0]);
  EXPECT_EQ(matmul_flops_per_step(g), 256 * 3 * 2);
  g.roles[0].program.body.clear();
  EXPECT_EQ(matmul_flops_per_step(g), 0);
}

// Of m x n numbers the product before gelu is written besides, and read in the backward.
TEST(Work, EpiloguesMoveTheProductBesides) {
  Matmul mm = matmul(3, 80, 5, Dtype::bf16, Dtype::bf16);
  const OpWork plain = of(mm);
  EXPECT_EQ(plain.written, Bytes{3 * 80 * 2});
  mm.epilogue = Epilogue::gelu;
  EXPECT_EQ(of(mm).written, plain.written + plain.written);
  EXPECT_EQ(of(mm).read, plain.read);
  EXPECT_EQ(of(mm).flops, plain.flops);
  mm.epilogue = Epilogue::gelu_backward;
  EXPECT_EQ(of(mm).written, plain.written);
  EXPECT_EQ(of(mm).read, plain.read + plain.written);
}

}  // namespace
}  // namespace foretrain::plan
