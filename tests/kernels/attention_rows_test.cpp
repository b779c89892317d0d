#include <gtest/gtest.h>

#include <cmath>

#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

std::size_t count(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

struct Case {
  AttentionShape shape;
  std::int64_t key_seq;
  bool packed, biased;  // q, k and v in the same rows
};

const std::vector<Case> kCases = {
    {{.batch = 0, .seq = 5, .heads = 2, .kv_heads = 2, .head_dim = 4, .causal = false}, 3, false, true},
    {{.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .causal = false}, 1, false, true},
    {{.batch = 2, .seq = 7, .heads = 4, .kv_heads = 2, .head_dim = 5, .causal = false}, 3, false, false},
    {{.batch = 2, .seq = 3, .heads = 2, .kv_heads = 2, .head_dim = 5, .causal = false, .scale = 1}, 130, false, true},
    {{.batch = 1, .seq = 200, .heads = 2, .kv_heads = 1, .head_dim = 8, .causal = false}, 97, false, true},
    {{.batch = 2, .seq = 9, .heads = 2, .kv_heads = 2, .head_dim = 4, .causal = true, .scale = 1}, 9, true, true},
    {{.batch = 1, .seq = 200, .heads = 2, .kv_heads = 2, .head_dim = 8, .causal = true}, 200, true, true},
    {{.batch = 2, .seq = 97, .heads = 2, .kv_heads = 1, .head_dim = 6, .causal = false, .value_dim = 10},
     97,
     true,
     true},
};

TEST(AttentionRows, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const Case& c : kCases) {
      for (const Dtype d : kElementTypes) {
        const AttentionShape& s = c.shape;
        const AttentionRows rows{c.key_seq, c.packed ? s.qkv_cols() : s.q_cols(),
                                 c.packed ? s.qkv_cols() : s.kv_cols()};
        const std::size_t behind = c.packed ? count(s.q_cols()) : 0;  // of kv's rows, those of q
        const std::string what = isa + " seq " + std::to_string(s.seq) + " keys " + std::to_string(c.key_seq);
        const Values q = random_tensor(d, s.tokens() * rows.ld_q, 1, 2.0),
                     kv = c.packed ? q : random_tensor(d, s.batch * c.key_seq * rows.ld_kv, 2, 2.0),
                     bias = random_tensor(wide(d), s.heads * (s.seq + c.key_seq - 1), 3),
                     d_o = random_tensor(d, s.tokens() * s.out_cols(), 4);
        const auto from = [&](ConstTensor x, bool is_kv) {
          return ConstTensor{static_cast<const char*>(x.data) + (is_kv ? size_bytes(d, c.packed ? s.q_cols() : 0) : 0),
                             d};
        };
        const std::vector<double> wq = q.doubles(), wkv = kv.doubles(), wbias = bias.doubles();
        Values o(d, count(s.tokens() * s.out_cols())), lse(wide(d), count(s.tokens() * s.heads));
        std::vector<double> eo(o.size()), else_(lse.size());
        attention_rows_forward(s, rows, q.tensor(), from(kv.tensor(), true), c.biased ? bias.tensor() : ConstTensor{},
                               o.tensor(), lse.tensor());
        reference::attention_rows_forward(s, rows, wq.data(), wkv.data() + behind, c.biased ? wbias.data() : nullptr,
                                          eo.data(), else_.data());
        expect_close(o, eo, d, 100, what + " o");
        expect_close(lse, else_, d, 100, what + " lse");

        Values dq(d, q.size()), dkv(d, kv.size()), d_bias(wide(d), std::vector<double>(bias.size(), 1));
        Tensor dkv_at = c.packed ? dq.tensor() : dkv.tensor();
        dkv_at.data = static_cast<char*>(dkv_at.data) + size_bytes(d, c.packed ? s.q_cols() : 0);
        attention_rows_backward(s, rows, q.tensor(), from(kv.tensor(), true), c.biased ? bias.tensor() : ConstTensor{},
                                o.tensor(), lse.tensor(), d_o.tensor(), dq.tensor(), dkv_at,
                                c.biased ? d_bias.tensor() : Tensor{});
        std::vector<double> edq(dq.size()), edkv(dkv.size()), ed_bias(bias.size(), 1);
        const std::vector<double> wo = o.doubles(), wlse = lse.doubles(), wd_o = d_o.doubles();
        reference::attention_rows_backward(
            s, rows, wq.data(), wkv.data() + behind, c.biased ? wbias.data() : nullptr, wo.data(), wlse.data(),
            wd_o.data(), edq.data(), c.packed ? edq.data() + behind : edkv.data(), c.biased ? ed_bias.data() : nullptr);
        const double tolerance = size_bytes(d, 1) == 2 ? 0.02 / rounding(Dtype::fp32) : 800;
        expect_close(dq, edq, d, tolerance, what + " dq");
        if (!c.packed) {
          expect_close(dkv, edkv, d, tolerance, what + " dkv");
        }
        expect_close(d_bias, ed_bias, d, tolerance, what + " d_bias");
      }
    }
  });
}

// Without a bias, keys and values in the same rows: what flash attention of packed qkv gives, bit for bit.
TEST(AttentionRows, OfPackedRowsAsFlash) {
  const AttentionShape s = {.batch = 2, .seq = 100, .heads = 2, .kv_heads = 1, .head_dim = 8};
  const Values qkv = random_tensor(Dtype::fp32, s.tokens() * s.qkv_cols(), 1, 2.0);
  Values o(Dtype::fp32, count(s.tokens() * s.out_cols())), lse(Dtype::fp32, count(s.tokens() * s.heads));
  Values o2 = o, lse2 = lse;
  attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
  const ConstTensor kv{static_cast<const float*>(qkv.tensor().data) + s.q_cols(), Dtype::fp32};
  attention_rows_forward(s, {s.seq, s.qkv_cols(), s.qkv_cols()}, qkv.tensor(), kv, {}, o2.tensor(), lse2.tensor());
  EXPECT_TRUE(o.same_bits(o2) && lse.same_bits(lse2));
}

// Two equal keys of values 2 and 6; log 3 for the one at the query's own place (distance 0), 0 for the next: weights
// 3/4 and 1/4, o = 3. d_o 1: dp 2 and 6, d 3, ds = 3/4 (2 - 3) and 1/4 (6 - 3).
TEST(AttentionRows, BiasByHand) {
  const AttentionShape s = {.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .causal = false};
  const Values q(Dtype::fp64, std::vector<double>{1}), kv(Dtype::fp64, {0, 2, 0, 6}),
      bias(Dtype::fp64, {std::log(3.0), 0}), d_o(Dtype::fp64, std::vector<double>{1});
  Values o(Dtype::fp64, 1), lse(Dtype::fp64, 1), dq(Dtype::fp64, 1), dkv(Dtype::fp64, 4), d_bias(Dtype::fp64, {1, 1});
  const AttentionRows rows{2, 1, 2};
  attention_rows_forward(s, rows, q.tensor(), kv.tensor(), bias.tensor(), o.tensor(), lse.tensor());
  EXPECT_NEAR(o.get(0), 3, 1e-14);
  attention_rows_backward(s, rows, q.tensor(), kv.tensor(), bias.tensor(), o.tensor(), lse.tensor(), d_o.tensor(),
                          dq.tensor(), dkv.tensor(), d_bias.tensor());
  EXPECT_NEAR(d_bias.get(0), 1 - 0.75, 1e-14);
  EXPECT_NEAR(d_bias.get(1), 1 + 0.75, 1e-14);
  EXPECT_NEAR(dkv.get(0), -0.75, 1e-14);  // ds q
  EXPECT_NEAR(dkv.get(1), 0.75, 1e-14);   // p d_o
}

// 32 buckets up to 128. Both sides: 16 each, exact up to 8, then 8 + floor(8 ln(d/8) / ln 16): 16 -> 10, 64 -> 14, 127
// and beyond -> 15; keys behind the query begin at 16. One side: exact up to 16, then 16 + floor(16 ln(d/16) / ln 8):
// 32 -> 21, 200 -> 31; keys behind have the query's.
TEST(RelativeBias, BucketsByHand) {
  const auto buckets = [](bool both) {
    const RelativeBiasShape s{1, 300, 300, 32, 128, both};
    std::vector<double> numbers;
    for (int i = 0; i < 32; ++i) {
      numbers.push_back(i);
    }
    const Values table(Dtype::fp32, numbers);
    Values bias(Dtype::fp32, count(s.distances()));
    relative_bias_forward(s, table.tensor(), bias.tensor());
    return bias;
  };
  const Values both = buckets(true), before = buckets(false);
  const auto at = [](const Values& x, int distance) { return static_cast<int>(x.get(count(distance + 299))); };
  for (const auto& [distance, bucket] : std::vector<std::pair<int, int>>{{0, 0},
                                                                         {-1, 1},
                                                                         {-7, 7},
                                                                         {-8, 8},
                                                                         {-16, 10},
                                                                         {-64, 14},
                                                                         {-127, 15},
                                                                         {-299, 15},
                                                                         {1, 17},
                                                                         {7, 23},
                                                                         {16, 26},
                                                                         {64, 30},
                                                                         {299, 31}}) {
    EXPECT_EQ(at(both, distance), bucket) << distance;
  }
  for (const auto& [distance, bucket] : std::vector<std::pair<int, int>>{
           {5, 0}, {0, 0}, {-1, 1}, {-15, 15}, {-16, 16}, {-32, 21}, {-127, 31}, {-200, 31}}) {
    EXPECT_EQ(at(before, distance), bucket) << distance;
  }
}

// The gradient of a bucket is the sum over its distances: 3 queries and 3 keys, 4 buckets, so that of a side only
// distances 0 and 1 are apart.
TEST(RelativeBias, GradientByHand) {
  const RelativeBiasShape s{1, 3, 3, 4, 3, true};
  const Values d_bias(Dtype::fp64, {1, 2, 4, 8, 16});  // distances -2 to 2
  Values d_table(Dtype::fp64, {100, 0, 0, 0});
  relative_bias_backward(s, d_bias.tensor(), d_table.tensor());
  EXPECT_EQ(d_table.doubles(), (std::vector<double>{104, 3, 0, 24}));
}

}  // namespace
}  // namespace foretrain::kernels
