// Attention on the emulated GPU, against the definition; parts of it against the CPU's kernels in fp64.
#include "kernels/cuda/attention.h"

#include <gtest/gtest.h>

#include "kernels/cuda/device_code.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels::cuda {
namespace {

Stream stream() {
  static std::vector<double> workspace(kWorkspaceBytes / sizeof(double), std::nan(""));
  return {.workspace = workspace.data()};
}

std::size_t count(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

std::string name_of(const AttentionShape& s, Dtype d) {
  return std::string(name(d)) + " seq " + std::to_string(s.seq) + " heads " + std::to_string(s.heads) + "/" +
         std::to_string(s.kv_heads) + " of " + std::to_string(s.head_dim) + "+" + std::to_string(s.v_dim()) +
         (s.causal ? " causal" : "") + " window " + std::to_string(s.window) + " documents " +
         std::to_string(s.document);
}

// What the 2e-2 of bf16 and the 1e-5 of fp32 are of, in roundings of fp32 (expect_close).
double tolerance(Dtype d) {
  return d == Dtype::bf16 ? 0.02 / rounding(Dtype::fp32) : d == Dtype::fp32 ? 150 : 400;
}

// Tiles have 64 rows and 64 or 32 others, heads are filled up to 64 and 128 columns: sizes on both sides of each.
const std::vector<AttentionShape> kShapes = {
    {.batch = 0, .seq = 5, .heads = 2, .kv_heads = 2, .head_dim = 4},
    {.batch = 2, .seq = 0, .heads = 2, .kv_heads = 2, .head_dim = 4},
    {.batch = 1, .seq = 4, .heads = 0, .kv_heads = 0, .head_dim = 4},
    {.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1},
    {.batch = 2, .seq = 7, .heads = 2, .kv_heads = 2, .head_dim = 5},
    {.batch = 1, .seq = 33, .heads = 4, .kv_heads = 2, .head_dim = 16},
    {.batch = 1, .seq = 64, .heads = 1, .kv_heads = 1, .head_dim = 64},
    {.batch = 2, .seq = 65, .heads = 3, .kv_heads = 1, .head_dim = 20},
    {.batch = 1, .seq = 130, .heads = 2, .kv_heads = 2, .head_dim = 128},
    {.batch = 1, .seq = 70, .heads = 2, .kv_heads = 1, .head_dim = 72, .value_dim = 40},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .scale = 0.7},
    {.batch = 1, .seq = 66, .heads = 2, .kv_heads = 2, .head_dim = 24, .value_dim = 16},
    {.batch = 1, .seq = 40, .heads = 4, .kv_heads = 2, .head_dim = 6, .value_dim = 10},
    {.batch = 1, .seq = 34, .heads = 2, .kv_heads = 1, .head_dim = 136, .value_dim = 130},
    {.batch = 1, .seq = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 1},
    {.batch = 1, .seq = 200, .heads = 2, .kv_heads = 1, .head_dim = 8, .window = 7},
    {.batch = 1, .seq = 150, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 110},
    {.batch = 2, .seq = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .document = 4},
    {.batch = 1, .seq = 200, .heads = 2, .kv_heads = 1, .head_dim = 8, .document = 67},
    {.batch = 1, .seq = 200, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 20, .document = 90},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .document = 1},
};

template <class F>
void for_cases(F f) {
  for (AttentionShape s : kShapes) {
    for (const bool causal : {true, false}) {
      if (!causal && (s.window != 0 || s.document != 0)) {
        continue;
      }
      s.causal = causal;
      for (const Dtype d : kElementTypes) {
        f(s, d, name_of(s, d));
      }
    }
  }
}

TEST(CudaAttention, FlashAgainstTheReference) {
  for_cases([](const AttentionShape& s, Dtype d, const std::string& what) {
    if (s.heads == 0) {
      return;
    }
    const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 2.0);
    Values o(d, count(s.tokens() * s.out_cols()));
    Values lse(wide(d), count(s.batch * s.heads * s.seq));
    std::vector<double> eo(o.size()), elses(lse.size());
    attention_forward(stream(), s, qkv.tensor(), o.tensor(), lse.tensor());
    reference::attention_forward(s, qkv.doubles().data(), eo.data(), elses.data());
    expect_close(o, eo, d, tolerance(d), what + " o");
    expect_close(lse, elses, d, 150, what + " lse");

    const Values d_o = random_tensor(d, s.tokens() * s.out_cols(), 2);
    Values dqkv(d, qkv.size()), again(d, qkv.size());
    std::vector<double> edqkv(qkv.size());
    attention_backward(stream(), s, qkv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), dqkv.tensor());
    reference::attention_backward(s, qkv.doubles().data(), d_o.doubles().data(), edqkv.data());
    expect_close(dqkv, edqkv, d, tolerance(d), what + " dqkv");

    emulation::use_order(3);
    attention_backward(stream(), s, qkv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), again.tensor());
    emulation::use_order(0);
    EXPECT_TRUE(again.same_bits(dqkv)) << what;
  });
}

// A row of 16-byte pieces at a 16-byte address takes the short way into shared memory: the same bits.
TEST(CudaAttention, AlignmentChangesNoBits) {
  const AttentionShape s = {.batch = 1, .seq = 70, .heads = 2, .kv_heads = 1, .head_dim = 64};
  const std::vector<double> values = random_values(count(s.tokens() * s.qkv_cols()), 1);
  const std::vector<double> gradients = random_values(count(s.tokens() * s.out_cols()), 2);
  std::vector<Values> o, dqkv;
  for (const std::size_t shift : {0, 1}) {
    const Values qkv(Dtype::bf16, values, shift), d_o(Dtype::bf16, gradients, shift);
    Values lse(Dtype::fp32, count(s.heads * s.seq));
    o.emplace_back(Dtype::bf16, gradients.size());
    dqkv.emplace_back(Dtype::bf16, values.size());
    attention_forward(stream(), s, qkv.tensor(), o.back().tensor(), lse.tensor());
    attention_backward(stream(), s, qkv.tensor(), o.back().tensor(), lse.tensor(), d_o.tensor(), dqkv.back().tensor());
  }
  EXPECT_TRUE(o[0].same_bits(o[1]));
  EXPECT_TRUE(dqkv[0].same_bits(dqkv[1]));
}

struct Part {
  const char* what;
  AttentionShape shape;
  AttentionPart part;
};

const AttentionShape kShared = {.batch = 2, .seq = 90, .heads = 4, .kv_heads = 2, .head_dim = 16, .value_dim = 24};
const std::vector<Part> kParts = {
    {"the own share", kShared, {.queries = 90, .keys = 90, .causal = true}},
    {"the first half of another share", kShared, {.queries = 90, .keys = 45}},
    {"late queries", kShared, {.first_query = 45, .queries = 45, .keys = 90}},
    {"keys from the middle", kShared, {.first_query = 3, .queries = 70, .first_key = 20, .keys = 65}},
    {"no keys", kShared, {.queries = 90}},
    {"no queries", kShared, {.keys = 90}},
    {"on a diagonal",
     kShared,
     {.first_query = 10, .queries = 70, .keys = 190, .causal = true, .diagonal = 120, .key_seq = 200}},
    {"a window", kShared, {.queries = 90, .keys = 200, .causal = true, .diagonal = 100, .window = 33, .key_seq = 200}},
    {"a jump",
     kShared,
     {.queries = 90, .keys = 360, .causal = true, .diagonal = 45, .key_seq = 360, .jump_at = 45, .jump = 180}},
    {"a jump, a window and documents",
     kShared,
     {.queries = 90,
      .keys = 360,
      .causal = true,
      .diagonal = 45,
      .window = 60,
      .document = 70,
      .key_seq = 360,
      .jump_at = 45,
      .jump = 180}},
};

TEST(CudaAttention, PartsAgainstTheCpu) {
  for (const Part& p : kParts) {
    for (const Dtype d : kElementTypes) {
      const AttentionShape& s = p.shape;
      const std::string what = std::string(name(d)) + " " + p.what;
      const std::int64_t key_rows = s.batch * p.part.keys_of(s);
      const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 2.0);
      Values kv = random_tensor(d, key_rows * s.kv_cols(), 2, 2.0);
      const Values d_o = random_tensor(d, s.tokens() * s.out_cols(), 3);
      const std::vector<double> before = random_values(qkv.size(), 4);
      // Nobody reads keys outside the part.
      for (std::int64_t i = 0; i < key_rows * s.kv_cols(); ++i) {
        const std::int64_t key = i / s.kv_cols() % p.part.keys_of(s);
        if (key < p.part.first_key || key >= p.part.first_key + p.part.keys) {
          kv.set(count(i), std::nan(""));
        }
      }
      const auto widened = [](const Values& x) { return Values(Dtype::fp64, x.doubles()); };
      Values o(d, std::vector<double>(d_o.size(), 7.0)), lse(wide(d), count(s.batch * s.heads * s.seq));
      Values eo(Dtype::fp64, std::vector<double>(d_o.size(), 7.0)), elses(Dtype::fp64, lse.size());
      attention_part_forward(stream(), s, p.part, qkv.tensor(), kv.tensor(), o.tensor(), lse.tensor());
      kernels::attention_part_forward(s, p.part, widened(qkv).tensor(), widened(kv).tensor(), eo.tensor(),
                                      elses.tensor());
      if (p.part.keys > 0) {
        expect_close(o, eo.doubles(), d, tolerance(d), what + " o");
      }
      expect_close(lse, elses.doubles(), d, 150, what + " lse");
      for (const bool add : {false, true}) {
        Values dqkv(d, before), dkv(d, kv.size()), ed(Dtype::fp64, dqkv.doubles()), edkv(Dtype::fp64, kv.size());
        attention_part_backward(stream(), s, p.part, qkv.tensor(), kv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(),
                                dqkv.tensor(), dkv.tensor(), add);
        kernels::attention_part_backward(s, p.part, widened(qkv).tensor(), widened(kv).tensor(), widened(o).tensor(),
                                         widened(lse).tensor(), widened(d_o).tensor(), ed.tensor(), edkv.tensor(), add);
        expect_close(dqkv, ed.doubles(), d, tolerance(d), what + " dq");
        expect_close(dkv, edkv.doubles(), d, tolerance(d), what + " dkv");
      }
    }
  }
}

TEST(CudaAttention, PartsMergedAgainstTheCpu) {
  const AttentionShape s = {.batch = 2, .seq = 7, .heads = 3, .kv_heads = 3, .head_dim = 4, .value_dim = 40};
  const std::int64_t parts = 3, rows = s.batch * s.heads * s.seq, elements = s.tokens() * s.out_cols();
  for (const Dtype d : kElementTypes) {
    Values o_parts = random_tensor(d, parts * elements, 1), lse_parts = random_tensor(wide(d), parts * rows, 2, 3.0);
    for (std::int64_t row = 0; row < rows; row += 3) {  // nobody reads what such a row never wrote
      lse_parts.set(count(rows + row), -INFINITY);
      const std::int64_t head = row / s.seq % s.heads, token = row / (s.heads * s.seq) * s.seq + row % s.seq;
      for (std::int64_t c = 0; c < s.v_dim(); ++c) {
        o_parts.set(count(elements + (token * s.heads + head) * s.v_dim() + c), std::nan(""));
      }
    }
    Values o(d, count(elements)), lse(wide(d), count(rows)), eo(d, count(elements)), elses(wide(d), count(rows));
    attention_merge(stream(), s, parts, o_parts.tensor(), lse_parts.tensor(), o.tensor(), lse.tensor());
    kernels::attention_merge(s, parts, o_parts.tensor(), lse_parts.tensor(), eo.tensor(), elses.tensor());
    expect_close(o, eo.doubles(), d, 20, "o");
    expect_close(lse, elses.doubles(), d, 20, "lse");
  }
}

TEST(CudaAttention, SinksAgainstTheCpu) {
  for (const AttentionShape& s : {AttentionShape{.batch = 2, .seq = 37, .heads = 3, .kv_heads = 3, .head_dim = 40},
                                  AttentionShape{.batch = 0, .seq = 3, .heads = 2, .kv_heads = 2, .head_dim = 8}}) {
    for (const Dtype d : kElementTypes) {
      for (const Dtype p : {d, wide(d)}) {
        const Values sinks = random_tensor(p, s.heads, 1, 2.0);
        Values o = random_tensor(d, s.tokens() * s.out_cols(), 2), eo = o;
        Values lse = random_tensor(wide(d), s.batch * s.heads * s.seq, 3, 2.0), elses = lse;
        attention_sinks_forward(stream(), s, sinks.tensor(), o.tensor(), lse.tensor());
        kernels::attention_sinks_forward(s, sinks.tensor(), eo.tensor(), elses.tensor());
        expect_close(o, eo.doubles(), d, 20, "o");
        expect_close(lse, elses.doubles(), d, 20, "lse");
        const Values d_o = random_tensor(d, s.tokens() * s.out_cols(), 4);
        Values d_sinks = random_tensor(wide(d), s.heads, 5), expected = d_sinks;
        attention_sinks_backward(stream(), s, sinks.tensor(), eo.tensor(), elses.tensor(), d_o.tensor(),
                                 d_sinks.tensor());
        kernels::attention_sinks_backward(s, sinks.tensor(), eo.tensor(), elses.tensor(), d_o.tensor(),
                                          expected.tensor());
        expect_close(d_sinks, expected.doubles(), d, 100, "d_sinks");
      }
    }
  }
}

TEST(CudaAttention, UnfusedAgainstTheReference) {
  for_cases([](const AttentionShape& s, Dtype d, const std::string& what) {
    const Values qkv = random_tensor(d, s.tokens() * s.qkv_cols(), 1, 2.0);
    const Values d_o = random_tensor(d, s.tokens() * s.out_cols(), 2);
    const std::vector<double> wqkv = qkv.doubles();
    const std::size_t scores = count(s.score_elements());
    for (const Dtype score_type : {d, wide(d)}) {
      Values x(score_type, scores), p(score_type, scores), dp(score_type, scores), ds(score_type, scores);
      std::vector<double> expected(scores), eo(d_o.size()), edp(scores), edqkv(qkv.size());
      attention_scores(stream(), s, qkv.tensor(), x.tensor());
      reference::attention_scores(s, wqkv.data(), expected.data());
      expect_close(x, expected, d, 60, what + " scores");

      expected = x.doubles();
      Values fused = x;
      attention_scale_mask(stream(), s, x.tensor());
      reference::attention_scale_mask(s, expected.data());
      expect_close(x, expected, d, 4, what + " scale, mask");
      attention_scale_mask_softmax(stream(), s, fused.tensor(), fused.tensor());
      reference::attention_softmax(s, expected.data(), expected.data());
      expect_close(fused, expected, d, 60, what + " scale, mask, softmax");
      expected = x.doubles();
      attention_softmax(stream(), s, x.tensor(), p.tensor());
      reference::attention_softmax(s, expected.data(), expected.data());
      expect_close(p, expected, d, 60, what + " softmax");

      Values o(d, d_o.size()), dqkv(d, qkv.size());
      const std::vector<double> wp = p.doubles();
      attention_context(stream(), s, p.tensor(), qkv.tensor(), o.tensor());
      reference::attention_context(s, wp.data(), wqkv.data(), eo.data());
      expect_close(o, eo, d, 60, what + " context");
      attention_context_backward(stream(), s, p.tensor(), qkv.tensor(), d_o.tensor(), dp.tensor(), dqkv.tensor());
      reference::attention_context_backward(s, wp.data(), wqkv.data(), d_o.doubles().data(), edp.data(), edqkv.data());
      expect_close(dp, edp, d, 60, what + " dp");

      const std::vector<double> wdp = dp.doubles();
      attention_softmax_backward(stream(), s, p.tensor(), dp.tensor(), ds.tensor());
      reference::attention_softmax_backward(s, wp.data(), wdp.data(), expected.data());
      expect_close(ds, expected, d, 60, what + " ds");
      reference::attention_scale_mask_backward(s, expected.data());
      attention_scale_mask_softmax_backward(stream(), s, p.tensor(), dp.tensor(), dp.tensor());
      expect_close(dp, expected, d, 60, what + " ds, scale, mask");
      std::vector<double> masked = ds.doubles();
      attention_scale_mask_backward(stream(), s, ds.tensor());
      reference::attention_scale_mask_backward(s, masked.data());
      expect_close(ds, masked, d, 4, what + " scale, mask backward");

      attention_scores_backward(stream(), s, ds.tensor(), qkv.tensor(), dqkv.tensor());
      reference::attention_scores_backward(s, ds.doubles().data(), wqkv.data(), edqkv.data());
      expect_close(dqkv, edqkv, d, 100, what + " dqkv");
    }
  });
}

}  // namespace
}  // namespace foretrain::kernels::cuda
