// Rotations by hand; against the reference they stand beside attention (attention_test.cpp).
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

// Head of 8 at base 10000: pairs turn by 1, 0.1, 0.01 and 0.001. Of 64 positions low 0.05 and high 2 are f = 0.0049 and
// 0.196: the first stays, the last is halved, and 64 * 0.1 / 2 pi = 1.0186 turns are (1.0186 - 0.05) / 1.95 = 0.4967 of
// the way: 0.1 * (0.5033 / 2 + 0.4967).
TEST(Rotary, ScaledByHand) {
  const AttentionShape s = {.batch = 1, .seq = 2, .heads = 1, .kv_heads = 1, .head_dim = 8};
  RotaryFrequencies f(10000.0);
  f.factor = 2.0;
  f.low = 0.05;
  f.high = 2.0;
  f.original_positions = 64.0;
  const double way = (6.4 / (2 * std::numbers::pi) - 0.05) / 1.95;
  std::vector<double> x(48, 0.0);
  for (const std::size_t i : {24, 25, 27}) {  // q of the second token
    x[i] = 1.0;
  }
  for_instruction_sets([&](const std::string& isa) {
    Values qkv(Dtype::fp64, x);
    rotary_forward(s, 8, f, 0, qkv.tensor());
    EXPECT_NEAR(qkv.get(28), std::sin(1.0), 1e-15) << isa;
    EXPECT_NEAR(qkv.get(29), std::sin(0.1 * ((1 - way) / 2 + way)), 1e-15) << isa;
    EXPECT_NEAR(qkv.get(31), std::sin(0.0005), 1e-15) << isa;
    std::vector<double> expected = x;
    reference::rotary_forward(s, 8, f, 0, expected.data());
    expect_close(qkv, expected, Dtype::fp64, 4, isa);
    rotary_backward(s, 8, f, 0, qkv.tensor());
    expect_close(qkv, x, Dtype::fp64, 4, isa + " and back");
  });
}

// Head of 4: pairs (0,2) with angle p and (1,3) with angle p/100 at base 10000. At p = 0 nothing turns; values stay.
TEST(Rotary, ByHand) {
  const AttentionShape s = {.batch = 1, .seq = 2, .heads = 1, .kv_heads = 1, .head_dim = 4};
  Values qkv(Dtype::fp64, {1, 2, 3, 4, 1, 0, 0, 0, 7, 7, 7, 7, 1, 0, 0, 1, 0, 0, 1, 0, 7, 7, 7, 7});
  rotary_forward(s, 4, 10000.0, 0, qkv.tensor());
  EXPECT_EQ(qkv.get(0), 1.0);
  EXPECT_EQ(qkv.get(3), 4.0);
  EXPECT_DOUBLE_EQ(qkv.get(12), std::cos(1.0));
  EXPECT_DOUBLE_EQ(qkv.get(14), std::sin(1.0));
  EXPECT_DOUBLE_EQ(qkv.get(13), -std::sin(0.01));
  EXPECT_DOUBLE_EQ(qkv.get(15), std::cos(0.01));
  EXPECT_DOUBLE_EQ(qkv.get(16), -std::sin(1.0));
  EXPECT_EQ(qkv.get(20), 7.0);  // values do not turn
  // Two columns of four: pair (0,1) with angle p, the others stay.
  Values half(Dtype::fp64, {1, 2, 3, 4, 1, 0, 0, 0, 7, 7, 7, 7, 1, 0, 5, 6, 0, 1, 8, 9, 7, 7, 7, 7});
  rotary_forward(s, 2, 10000.0, 0, half.tensor());
  EXPECT_DOUBLE_EQ(half.get(12), std::cos(1.0));
  EXPECT_DOUBLE_EQ(half.get(13), std::sin(1.0));
  EXPECT_EQ(half.get(14), 5.0);
  EXPECT_EQ(half.get(15), 6.0);
  EXPECT_DOUBLE_EQ(half.get(16), -std::sin(1.0));
  EXPECT_DOUBLE_EQ(half.get(17), std::cos(1.0));
  EXPECT_EQ(half.get(18), 8.0);
}

// Two heads of 1 + 2 columns, values of 1; at position 1 the pair turns by one radian, in q per head, in k once for
// both.
TEST(LatentHeads, ByHand) {
  const LatentHeadsShape s = {.batch = 1, .seq = 2, .heads = 2, .nope_dim = 1, .rope_dim = 2, .v_dim = 1};
  const Values q(Dtype::fp64, {1, 2, 3, 4, 5, 6, 1, 1, 0, 2, 0, 1}), kv(Dtype::fp64, {10, 11, 12, 13, 20, 21, 22, 23});
  const Values k_rope(Dtype::fp64, {7, 8, 0, 1});
  Values qkv(Dtype::fp64, 2 * 14);
  latent_heads_forward(s, 1e4, q.tensor(), kv.tensor(), k_rope.tensor(), qkv.tensor());
  const double c = std::cos(1.0), n = std::sin(1.0);
  const std::vector<double> expected = {1, 2, 3, 4, 5,  6, 10, 7,  8, 12, 7,  8, 11, 13,   // position 0: q, k, v
                                        1, c, n, 2, -n, c, 20, -n, c, 22, -n, c, 21, 23};  // position 1
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_DOUBLE_EQ(qkv.get(i), expected[i]) << i;
  }
}

TEST(Rotary, RefusesHeadsThatDoNotDivide) {
  Values x(Dtype::fp32, 64);
  EXPECT_THROW(rotary_forward({.batch = 1, .seq = 1, .heads = 3, .kv_heads = 2, .head_dim = 4}, 4, 1e4, 0, x.tensor()),
               InternalError);
  EXPECT_THROW(rotary_forward({.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 3}, 3, 1e4, 0, x.tensor()),
               InternalError);
}

}  // namespace
}  // namespace foretrain::kernels
