#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

const std::vector<AttentionShape> kShapes = {
    {.batch = 0, .seq = 5, .heads = 2, .kv_heads = 2, .head_dim = 4},
    {.batch = 2, .seq = 0, .heads = 2, .kv_heads = 2, .head_dim = 4},
    {.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1},
    {.batch = 2, .seq = 7, .heads = 2, .kv_heads = 2, .head_dim = 5},
    {.batch = 1, .seq = 33, .heads = 4, .kv_heads = 2, .head_dim = 16},
    {.batch = 2, .seq = 97, .heads = 3, .kv_heads = 1, .head_dim = 20},
    {.batch = 1, .seq = 200, .heads = 2, .kv_heads = 2, .head_dim = 64},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .scale = 0.7},
    {.batch = 2, .seq = 97, .heads = 2, .kv_heads = 2, .head_dim = 24, .value_dim = 16},
    {.batch = 1, .seq = 40, .heads = 4, .kv_heads = 2, .head_dim = 6, .value_dim = 10},
    {.batch = 1, .seq = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 1},
    {.batch = 1, .seq = 200, .heads = 2, .kv_heads = 1, .head_dim = 8, .window = 7},
    {.batch = 1, .seq = 200, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 110},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 40},
    {.batch = 2, .seq = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .document = 4},
    {.batch = 1, .seq = 200, .heads = 2, .kv_heads = 1, .head_dim = 8, .document = 67},
    {.batch = 1, .seq = 200, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 20, .document = 90},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .document = 1},
};

// Every shape causal and, where it has no window, not, in every type.
template <class F>
void for_cases(F f) {
  for_instruction_sets([&](const std::string& isa) {
    for (AttentionShape s : kShapes) {
      const bool has_window = s.window != 0 || s.document != 0;
      for (const bool causal : {true, false}) {
        if (!causal && has_window) {
          continue;
        }
        s.causal = causal;
        for (const Dtype d : kElementTypes) {
          f(s, d, isa + " seq " + std::to_string(s.seq) + (causal ? " causal" : ""));
        }
      }
    }
  });
}

std::size_t count(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

TEST(Attention, FlashAgainstTheReference) {
  for_cases([](const AttentionShape& s, Dtype d, const std::string& what) {
    const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 2.0);
    Values o(d, count(s.tokens() * s.out_cols()));
    Values lse(wide(d), count(s.batch * s.heads * s.seq));
    std::vector<double> eo(o.size()), else_(lse.size());
    attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
    reference::attention_forward(s, qkv.doubles().data(), eo.data(), else_.data());
    expect_close(o, eo, d, 100, what + " o");
    expect_close(lse, else_, d, 100, what + " lse");

    const Values d_o = random_tensor(d, s.tokens() * s.out_cols(), 2);
    Values dqkv(d, qkv.size());
    std::vector<double> edqkv(qkv.size());
    attention_backward(s, qkv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), dqkv.tensor());
    reference::attention_backward(s, qkv.doubles().data(), d_o.doubles().data(), edqkv.data());
    // bf16: the rounded o enters the row sums of d_o * o, with 2^-8 of its size.
    expect_close(dqkv, edqkv, d, size_bytes(d, 1) == 2 ? 0.02 / rounding(Dtype::fp32) : 400, what + " dqkv");
  });
}

TEST(Attention, UnfusedAgainstTheReference) {
  for_cases([](const AttentionShape& s, Dtype d, const std::string& what) {
    const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 2.0);
    const std::vector<double> wqkv = qkv.doubles();
    const std::size_t scores = count(s.score_elements());
    for (const Dtype score_type : {d, wide(d)}) {
      Values x(score_type, scores);
      std::vector<double> expected(scores);
      attention_scores(s, qkv.tensor(), x.tensor());
      reference::attention_scores(s, wqkv.data(), expected.data());
      expect_close(x, expected, d, 60, what + " scores");

      expected = x.doubles();
      Values fused(score_type, expected);
      attention_scale_mask(s, x.tensor());
      reference::attention_scale_mask(s, expected.data());
      expect_close(x, expected, d, 4, what + " scale, mask");

      reference::attention_softmax(s, expected.data(), expected.data());
      attention_scale_mask_softmax(s, fused.tensor(), fused.tensor());
      expect_close(fused, expected, d, 60, what + " scale, mask, softmax");
      expected = x.doubles();
      reference::attention_softmax(s, expected.data(), expected.data());
      Values p(score_type, scores);
      attention_softmax(s, x.tensor(), p.tensor());
      expect_close(p, expected, d, 60, what + " softmax");

      Values o(d, count(s.tokens() * s.out_cols()));
      std::vector<double> eo(o.size());
      attention_context(s, p.tensor(), qkv.tensor(), o.tensor());
      reference::attention_context(s, p.doubles().data(), wqkv.data(), eo.data());
      expect_close(o, eo, d, 60, what + " context");
    }
  });
}

TEST(Attention, UnfusedBackwardAgainstTheReference) {
  for_cases([](const AttentionShape& s, Dtype d, const std::string& what) {
    const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 2.0);
    const Values d_o = random_tensor(d, s.tokens() * s.out_cols(), 2);
    const std::vector<double> wqkv = qkv.doubles();
    const std::size_t scores = count(s.score_elements());
    for (const Dtype score_type : {d, wide(d)}) {
      Values p(score_type, scores);
      attention_scores(s, qkv.tensor(), p.tensor());
      attention_scale_mask_softmax(s, p.tensor(), p.tensor());
      const std::vector<double> wp = p.doubles();

      Values dqkv(d, qkv.size());
      std::vector<double> edqkv(qkv.size()), edp(scores);
      Values dp(score_type, scores);
      attention_context_backward(s, p.tensor(), qkv.tensor(), d_o.tensor(), dp.tensor(), dqkv.tensor());
      reference::attention_context_backward(s, wp.data(), wqkv.data(), d_o.doubles().data(), edp.data(), edqkv.data());
      expect_close(dp, edp, d, 60, what + " dp");

      const std::vector<double> wdp = dp.doubles();
      std::vector<double> eds(scores);
      reference::attention_softmax_backward(s, wp.data(), wdp.data(), eds.data());
      Values ds(score_type, scores);
      attention_softmax_backward(s, p.tensor(), dp.tensor(), ds.tensor());
      expect_close(ds, eds, d, 60, what + " ds");
      reference::attention_scale_mask_backward(s, eds.data());
      attention_scale_mask_softmax_backward(s, p.tensor(), dp.tensor(), dp.tensor());
      expect_close(dp, eds, d, 60, what + " ds, scale, mask");
      std::vector<double> masked = ds.doubles();
      reference::attention_scale_mask_backward(s, masked.data());
      attention_scale_mask_backward(s, ds.tensor());
      expect_close(ds, masked, d, 4, what + " scale, mask backward");

      attention_scores_backward(s, ds.tensor(), qkv.tensor(), dqkv.tensor());
      reference::attention_scores_backward(s, ds.doubles().data(), wqkv.data(), edqkv.data());
      expect_close(dqkv, edqkv, d, 100, what + " dqkv");
    }
  });
}

TEST(Attention, FlashAndUnfusedAgree) {
  const AttentionShape s = {.batch = 2, .seq = 130, .heads = 4, .kv_heads = 2, .head_dim = 32};
  const Values qkv = random_tensor(Dtype::fp64, s.tokens() * s.qkv_cols(), 1, 2.0);
  const Values d_o = random_tensor(Dtype::fp64, s.tokens() * s.out_cols(), 2);
  Values o(Dtype::fp64, d_o.size()), lse(Dtype::fp64, count(s.batch * s.heads * s.seq)), dqkv(Dtype::fp64, qkv.size());
  attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
  attention_backward(s, qkv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), dqkv.tensor());
  Values p(Dtype::fp64, count(s.score_elements())), dp(Dtype::fp64, p.size()), o2(Dtype::fp64, o.size()),
      dqkv2(Dtype::fp64, qkv.size());
  attention_scores(s, qkv.tensor(), p.tensor());
  attention_scale_mask_softmax(s, p.tensor(), p.tensor());
  attention_context(s, p.tensor(), qkv.tensor(), o2.tensor());
  attention_context_backward(s, p.tensor(), qkv.tensor(), d_o.tensor(), dp.tensor(), dqkv2.tensor());
  attention_scale_mask_softmax_backward(s, p.tensor(), dp.tensor(), dp.tensor());
  attention_scores_backward(s, dp.tensor(), qkv.tensor(), dqkv2.tensor());
  expect_close(o, o2.doubles(), Dtype::fp64, 50, "o");
  expect_close(dqkv, dqkv2.doubles(), Dtype::fp64, 100, "dqkv");
}

// A sequence cut over `ranks` as a ring does it: rank i has pieces i and 2 ranks - 1 - i of 2 ranks pieces. The parts
// of a rank, merged, and the sums of the parts' gradients are the whole attention.
void expect_ring(const AttentionShape& whole, std::int64_t ranks, Dtype d, const std::string& what) {
  const std::int64_t piece = whole.seq / (2 * ranks), qkv_cols = whole.qkv_cols(), out_cols = whole.out_cols();
  AttentionShape s = whole;
  s.seq = 2 * piece;
  const auto position = [&](std::int64_t rank, std::int64_t t) {
    return t < piece ? rank * piece + t : (2 * ranks - 1 - rank) * piece + t - piece;
  };
  const Values qkv = random_tensor(d, whole.tokens() * qkv_cols, 1, 2.0);
  const Values d_o = random_tensor(d, whole.tokens() * out_cols, 2);
  const std::vector<double> wide_qkv = qkv.doubles();
  std::vector<double> eo(d_o.size()), elses(count(whole.batch * whole.heads * whole.seq)), edqkv(qkv.size());
  reference::attention_forward(whole, wide_qkv.data(), eo.data(), elses.data());
  reference::attention_backward(whole, wide_qkv.data(), d_o.doubles().data(), edqkv.data());

  // Rows of a rank's share, or back.
  const auto share = [&](const Values& x, std::int64_t cols, std::int64_t rank) {
    Values y(d, count(s.tokens() * cols));
    for (std::int64_t b = 0; b < s.batch; ++b) {
      for (std::int64_t t = 0; t < s.seq; ++t) {
        for (std::int64_t c = 0; c < cols; ++c) {
          y.set(count((b * s.seq + t) * cols + c), x.get(count((b * whole.seq + position(rank, t)) * cols + c)));
        }
      }
    }
    return y;
  };
  std::vector<Values> shares, kv, dkv;
  for (std::int64_t r = 0; r < ranks; ++r) {
    shares.push_back(share(qkv, qkv_cols, r));
    kv.emplace_back(d, count(s.tokens() * s.kv_cols()));
    dkv.emplace_back(Dtype::fp64, kv.back().size());
    const std::int64_t q = s.heads * s.head_dim;
    const ConstTensor from{static_cast<const char*>(shares.back().tensor().data) + size_bytes(d, q), d};
    copy_matrix(s.tokens(), s.kv_cols(), from, qkv_cols, kv.back().tensor(), s.kv_cols());
  }
  const auto part_of = [&](std::int64_t own, std::int64_t other) {
    return own == other  ? AttentionPart{0, s.seq, 0, s.seq, true}
           : other < own ? AttentionPart{0, s.seq, 0, piece, false}
                         : AttentionPart{piece, piece, 0, s.seq, false};
  };
  const double loose = size_bytes(d, 1) == 2 ? 0.03 / rounding(Dtype::fp32) : 400;
  for (std::int64_t r = 0; r < ranks; ++r) {
    const std::size_t out = count(s.tokens() * out_cols), rows = count(s.batch * s.heads * s.seq);
    Values o_parts(d, count(ranks) * out), lse_parts(wide(d), count(ranks) * rows), o(d, out), lse(wide(d), rows);
    for (std::int64_t k = 0; k < ranks; ++k) {
      const std::int64_t other = (r - k + ranks) % ranks;
      const auto at = [k](const Tensor& t, std::size_t n) {
        return Tensor{static_cast<char*>(t.data) + size_bytes(t.dtype, k * static_cast<std::int64_t>(n)), t.dtype};
      };
      attention_part_forward(s, part_of(r, other), shares[count(r)].tensor(), kv[count(other)].tensor(),
                             at(o_parts.tensor(), out), at(lse_parts.tensor(), rows));
    }
    attention_merge(s, ranks, o_parts.tensor(), lse_parts.tensor(), o.tensor(), lse.tensor());
    const Values d_own = share(d_o, out_cols, r);
    std::vector<double> expected(out), expected_dq(shares[count(r)].size());
    Values dqkv(d, shares[count(r)].size());
    for (std::int64_t k = ranks - 1; k >= 0; --k) {
      const std::int64_t other = (r - k + ranks) % ranks;
      Values part(d, kv[count(other)].size());
      attention_part_backward(s, part_of(r, other), shares[count(r)].tensor(), kv[count(other)].tensor(), o.tensor(),
                              lse.tensor(), d_own.tensor(), dqkv.tensor(), part.tensor(), k + 1 < ranks);
      for (std::size_t i = 0; i < part.size(); ++i) {
        dkv[count(other)].set(i, dkv[count(other)].get(i) + part.get(i));
      }
    }
    for (std::int64_t t = 0; t < s.tokens(); ++t) {
      const std::int64_t row = t / s.seq * whole.seq + position(r, t % s.seq);
      for (std::int64_t c = 0; c < out_cols; ++c) {
        expected[count(t * out_cols + c)] = eo[count(row * out_cols + c)];
        expected_dq[count(t * qkv_cols + c)] = edqkv[count(row * qkv_cols + c)];
      }
    }
    expect_close(o, expected, d, size_bytes(d, 1) == 2 ? loose : 100, what + " o");
    expect_close(dqkv, expected_dq, d, loose, what + " dq");
  }
  for (std::int64_t r = 0; r < ranks; ++r) {
    std::vector<double> expected(dkv[count(r)].size());
    for (std::int64_t t = 0; t < s.tokens(); ++t) {
      const std::int64_t row = t / s.seq * whole.seq + position(r, t % s.seq);
      for (std::int64_t c = 0; c < s.kv_cols(); ++c) {
        expected[count(t * s.kv_cols() + c)] = edqkv[count(row * qkv_cols + out_cols + c)];
      }
    }
    expect_close(dkv[count(r)], expected, d, d == Dtype::fp64 ? 400 : loose, what + " dkv");
  }
}

TEST(Attention, PartsOfARingAreTheWhole) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : kElementTypes) {
      for (const std::int64_t ranks : {1, 2, 3}) {
        expect_ring({.batch = 2, .seq = 12, .heads = 2, .kv_heads = 1, .head_dim = 5}, ranks, d, isa);
        expect_ring({.batch = 1, .seq = 420, .heads = 4, .kv_heads = 2, .head_dim = 16}, ranks, d, isa);
      }
    }
  });
}

// Shares of a sequence over all of its keys, gathered: the early and the late piece of a rank, each up to its diagonal.
void expect_gathered(const AttentionShape& whole, std::int64_t ranks, Dtype d, const std::string& what) {
  const std::int64_t piece = whole.seq / (2 * ranks), qkv_cols = whole.qkv_cols(), out_cols = whole.out_cols();
  AttentionShape s = whole;
  s.seq = 2 * piece;
  const Values qkv = random_tensor(d, whole.tokens() * qkv_cols, 1, 2.0);
  const Values d_o = random_tensor(d, whole.tokens() * out_cols, 2);
  std::vector<double> eo(d_o.size()), else_(count(whole.batch * whole.heads * whole.seq)), edqkv(qkv.size());
  reference::attention_forward(whole, qkv.doubles().data(), eo.data(), else_.data());
  reference::attention_backward(whole, qkv.doubles().data(), d_o.doubles().data(), edqkv.data());
  Values kv(d, count(whole.tokens() * whole.kv_cols()));
  const std::int64_t q = whole.heads * whole.head_dim;
  copy_matrix(whole.tokens(), whole.kv_cols(), {static_cast<const char*>(qkv.tensor().data) + size_bytes(d, q), d},
              qkv_cols, kv.tensor(), whole.kv_cols());
  std::vector<double> dkv(kv.size());
  const double loose = size_bytes(d, 1) == 2 ? 0.03 / rounding(Dtype::fp32) : 400;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const std::int64_t pieces[] = {rank, 2 * ranks - 1 - rank};
    const auto row_of = [&](std::int64_t t) {
      return t / s.seq * whole.seq + pieces[t % s.seq / piece] * piece + t % piece;
    };
    Values own(d, count(s.tokens() * qkv_cols)), own_d_o(d, count(s.tokens() * out_cols)), o(d, own_d_o.size()),
        lse(wide(d), count(s.batch * s.heads * s.seq)), dqkv(d, own.size());
    std::vector<double> expected(o.size()), expected_dq(own.size());
    for (std::int64_t t = 0; t < s.tokens(); ++t) {
      for (std::int64_t c = 0; c < qkv_cols; ++c) {
        own.set(count(t * qkv_cols + c), qkv.get(count(row_of(t) * qkv_cols + c)));
        expected_dq[count(t * qkv_cols + c)] = c < q ? edqkv[count(row_of(t) * qkv_cols + c)] : 0;
      }
      for (std::int64_t c = 0; c < out_cols; ++c) {
        own_d_o.set(count(t * out_cols + c), d_o.get(count(row_of(t) * out_cols + c)));
        expected[count(t * out_cols + c)] = eo[count(row_of(t) * out_cols + c)];
      }
    }
    AttentionPart part{0, s.seq, 0, whole.seq, true, pieces[0] * piece, whole.window, whole.document, whole.seq};
    part.jump_at = piece;
    part.jump = (pieces[1] - pieces[0] - 1) * piece;
    attention_part_forward(s, part, own.tensor(), kv.tensor(), o.tensor(), lse.tensor());
    expect_close(o, expected, d, size_bytes(d, 1) == 2 ? loose : 100, what + " o");
    Values part_dkv(d, kv.size());
    attention_part_backward(s, part, own.tensor(), kv.tensor(), o.tensor(), lse.tensor(), own_d_o.tensor(),
                            dqkv.tensor(), part_dkv.tensor(), false);
    for (std::size_t k = 0; k < part_dkv.size(); ++k) {
      dkv[k] += part_dkv.get(k);
    }
    expect_close(dqkv, expected_dq, d, loose, what + " dq");
  }
  for (std::int64_t t = 0; t < whole.tokens(); ++t) {
    for (std::int64_t c = 0; c < whole.kv_cols(); ++c) {
      const double e = edqkv[count(t * qkv_cols + q + c)];
      EXPECT_NEAR(dkv[count(t * whole.kv_cols() + c)], e, (std::abs(e) + 1) * loose * rounding(d)) << what;
    }
  }
}

TEST(Attention, PiecesOverGatheredKeysAreTheWhole) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
      for (const std::int64_t ranks : {1, 2, 3}) {
        for (const std::int64_t window : {0, 2, 5}) {
          expect_gathered({.batch = 2, .seq = 12, .heads = 2, .kv_heads = 1, .head_dim = 5, .window = window}, ranks, d,
                          isa);
        }
        expect_gathered({.batch = 2, .seq = 12, .heads = 2, .kv_heads = 1, .head_dim = 5, .document = 5}, ranks, d,
                        isa);
        expect_gathered({.batch = 1, .seq = 420, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 100}, ranks, d,
                        isa);
      }
    }
  });
}

// Values 8 with weight 1/2 each of two equal scores 0: o 8, lse log 2. A sink of log 2 takes half of it: o 4, lse
// log 4. d sink = -1/2 (d_o · o) = -1/2 (3 · 4).
TEST(Attention, SinkByHand) {
  const AttentionShape s = {.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1};
  const auto one = [](double x) { return Values(Dtype::fp64, std::vector<double>{x}); };
  Values o = one(8), lse = one(std::log(2.0)), d_sinks = one(1);
  const Values sinks = one(std::log(2.0)), d_o = one(3);
  attention_sinks_forward(s, sinks.tensor(), o.tensor(), lse.tensor());
  EXPECT_DOUBLE_EQ(o.get(0), 4);
  EXPECT_DOUBLE_EQ(lse.get(0), std::log(4.0));
  attention_sinks_backward(s, sinks.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), d_sinks.tensor());
  EXPECT_DOUBLE_EQ(d_sinks.get(0), 1 - 6);
}

// Two parts of one row: lse 0 and log 3 weigh 1/4 and 3/4, together log 4. What is not written is not read.
TEST(Attention, MergeByHand) {
  const AttentionShape s = {.batch = 1, .seq = 2, .heads = 1, .kv_heads = 1, .head_dim = 1};
  const double nan = std::nan(""), lowest = -std::numeric_limits<double>::infinity();
  const Values o_parts(Dtype::fp64, {8, nan, 4, 7}), lse_parts(Dtype::fp64, {0, lowest, std::log(3.0), 5});
  Values o(Dtype::fp64, 2), lse(Dtype::fp64, 2);
  attention_merge(s, 2, o_parts.tensor(), lse_parts.tensor(), o.tensor(), lse.tensor());
  EXPECT_DOUBLE_EQ(o.get(0), 5);
  EXPECT_DOUBLE_EQ(lse.get(0), std::log(4.0));
  EXPECT_DOUBLE_EQ(o.get(1), 7);
  EXPECT_DOUBLE_EQ(lse.get(1), 5);
}

TEST(Attention, RefusesPartsOutsideTheSequence) {
  const AttentionShape s = {.batch = 1, .seq = 4, .heads = 1, .kv_heads = 1, .head_dim = 1};
  Values x(Dtype::fp32, 16), y(Dtype::fp32, 16);
  EXPECT_THROW(attention_part_forward(s, {1, 4, 0, 4}, x.tensor(), x.tensor(), y.tensor(), y.tensor()), InternalError);
  EXPECT_THROW(attention_part_forward(s, {0, 4, 0, 2, true}, x.tensor(), x.tensor(), y.tensor(), y.tensor()),
               InternalError);
  EXPECT_THROW(attention_part_forward(s, {0, 2, 0, 4, true, 3}, x.tensor(), x.tensor(), y.tensor(), y.tensor()),
               InternalError);
  EXPECT_THROW(attention_part_forward(s, {0, 2, 0, 4, false, 0, 1}, x.tensor(), x.tensor(), y.tensor(), y.tensor()),
               InternalError);
}

// Scores of ±1000: without subtracting the maximum every exponential would overflow.
TEST(Attention, LargeScores) {
  for (const Dtype d : kElementTypes) {
    const AttentionShape s = {.batch = 1, .seq = 150, .heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 1.0};
    const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 22.0);
    Values o(d, count(s.tokens() * s.out_cols())), lse(wide(d), 150);
    std::vector<double> eo(o.size()), else_(150);
    attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
    reference::attention_forward(s, qkv.doubles().data(), eo.data(), else_.data());
    expect_close(lse, else_, d, 10, "lse");
    expect_close(o, eo, d, 20000, "o");  // a score of 1000 carries 1000 roundings into the exponent
  }
}

TEST(Rotary, AgainstTheReferenceAndBack) {
  for_cases([](const AttentionShape& shape, Dtype d, const std::string& what) {
    if (!shape.causal || shape.window != 0 || shape.document != 0) {
      return;  // nothing to a rotation
    }
    AttentionShape s = shape;
    s.head_dim += s.head_dim % 2;
    for (const auto& [dim, offset] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {s.head_dim, 0}, {s.head_dim, 17}, {s.head_dim / 4 * 2, 3}, {0, 0}}) {
      const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1);
      Values turned = qkv;
      std::vector<double> expected = qkv.doubles();
      rotary_forward(s, dim, 10000.0, offset, turned.tensor());
      reference::rotary_forward(s, dim, 10000.0, offset, expected.data());
      expect_close(turned, expected, d, 4, what);
      expected = turned.doubles();
      rotary_backward(s, dim, 10000.0, offset, turned.tensor());
      reference::rotary_backward(s, dim, 10000.0, offset, expected.data());
      expect_close(turned, expected, d, 4, what);
      expect_close(turned, qkv.doubles(), d, size_bytes(d, 1) == 2 ? 0.02 / rounding(Dtype::fp32) : 8,
                   what + " and back");
    }
  });
}

}  // namespace
}  // namespace foretrain::kernels
