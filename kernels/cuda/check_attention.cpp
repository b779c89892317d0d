// Attention, against the definition; parts of it, their merging and sinks against the CPU's launchers in fp64.
#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/check_bench.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

// Tiles have 64 rows and 64, 32 or 16 others, bf16 heads are filled up to 64, 128 or 256 columns, or keys to 192 and
// values to 128: sizes on both sides of each.
const std::vector<AttentionShape> kShapes = {
    {.batch = 0, .seq = 5, .heads = 2, .kv_heads = 2, .head_dim = 4},
    {.batch = 2, .seq = 0, .heads = 2, .kv_heads = 2, .head_dim = 4},
    {.batch = 1, .seq = 1, .heads = 1, .kv_heads = 1, .head_dim = 1},
    {.batch = 2, .seq = 7, .heads = 2, .kv_heads = 2, .head_dim = 5},
    {.batch = 1, .seq = 33, .heads = 4, .kv_heads = 2, .head_dim = 16},
    {.batch = 1, .seq = 64, .heads = 1, .kv_heads = 1, .head_dim = 64},
    {.batch = 2, .seq = 65, .heads = 3, .kv_heads = 1, .head_dim = 20},
    {.batch = 1, .seq = 130, .heads = 2, .kv_heads = 2, .head_dim = 128},
    {.batch = 1, .seq = 70, .heads = 2, .kv_heads = 1, .head_dim = 72, .value_dim = 40},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .scale = 0.7},
    {.batch = 1, .seq = 40, .heads = 4, .kv_heads = 2, .head_dim = 6, .value_dim = 10},
    {.batch = 1, .seq = 34, .heads = 2, .kv_heads = 1, .head_dim = 136, .value_dim = 130},
    {.batch = 1, .seq = 70, .heads = 2, .kv_heads = 1, .head_dim = 190, .value_dim = 120},
    {.batch = 1, .seq = 66, .heads = 2, .kv_heads = 1, .head_dim = 120, .value_dim = 140},
    {.batch = 1, .seq = 65, .heads = 1, .kv_heads = 1, .head_dim = 256},
    {.batch = 1, .seq = 34, .heads = 2, .kv_heads = 1, .head_dim = 260, .value_dim = 30},
    {.batch = 1, .seq = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 1},
    {.batch = 1, .seq = 140, .heads = 2, .kv_heads = 1, .head_dim = 8, .window = 7},
    {.batch = 1, .seq = 140, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 110},
    {.batch = 2, .seq = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .document = 4},
    {.batch = 1, .seq = 140, .heads = 2, .kv_heads = 1, .head_dim = 8, .document = 67},
    {.batch = 1, .seq = 140, .heads = 1, .kv_heads = 1, .head_dim = 8, .window = 20, .document = 90},
    {.batch = 1, .seq = 40, .heads = 1, .kv_heads = 1, .head_dim = 8, .document = 1},
};

std::string name_of(const AttentionShape& s) {
  return fmt::format("attention of {} x {} tokens, {}/{} heads of {} and {}{}, window {}, documents {}", s.batch, s.seq,
                     s.heads, s.kv_heads, s.head_dim, s.v_dim(), s.causal ? ", causal" : "", s.window, s.document);
}

template <class F>
void for_cases(F f) {
  for (AttentionShape s : kShapes) {
    for (const bool causal : {true, false}) {
      if (causal || (s.window == 0 && s.document == 0)) {
        s.causal = causal;
        for (const Dtype d : kElementTypes) {
          f(s, d, name_of(s));
        }
      }
    }
  }
}

// Weights rounded to bf16 are off by 2^-9, and the sums of d_o o, of an o so rounded, too: 2e-2 of the largest.
double factor(Dtype d) {
  return d == Dtype::bf16 ? 2000.0 : 1.0;
}

Doubles zeros(int64_t n) {
  return Doubles(static_cast<std::size_t>(n));
}

void flash(Bench& bench) {
  for_cases([&](const AttentionShape& s, Dtype d, const std::string& what) {
    const Array qkv = Array::random(bench, d, s.tokens() * s.qkv_cols(), 1, 2.0);
    const Array o = Array::unset(bench, d, s.tokens() * s.out_cols());
    const Array lse = Array::unset(bench, wide(d), s.batch * s.heads * s.seq);
    Doubles eo = zeros(o.size()), elses = zeros(lse.size()), edqkv = zeros(qkv.size());
    attention_forward(bench.stream(), s, qkv, o, lse);
    reference::attention_forward(s, qkv.given().data(), eo.data(), elses.data());
    bench.expect(what + ", o", o, eo, factor(d));
    bench.expect(what + ", lse", lse, elses);

    const Array d_o = Array::random(bench, d, s.tokens() * s.out_cols(), 2);
    const Array dqkv = Array::unset(bench, d, qkv.size());
    attention_backward(bench.stream(), s, qkv, o, lse, d_o, dqkv);
    reference::attention_backward(s, qkv.given().data(), d_o.given().data(), edqkv.data());
    bench.expect(what + ", dqkv", dqkv, edqkv, factor(d));
  });
}

// A tensor of whole 16-byte pieces takes the short ways, into shared memory and to cuDNN. An Array begins 3 elements
// past such an address: 5 further is the next one.
void aligned(Bench& bench) {
  constexpr int64_t kSkipped = 5;
  const auto past = [](const Array& array) {
    return Tensor{static_cast<char*>(array.tensor().data) + size_bytes(array.dtype(), kSkipped), array.dtype()};
  };
  struct Columns {
    int64_t keys, values;
  };
  for (const auto& [keys, values] : {Columns{64, 64}, Columns{128, 128}, Columns{192, 128}, Columns{256, 256}}) {
    for (const bool causal : {true, false}) {
      const AttentionShape s = {
          .batch = 2, .seq = 70, .heads = 4, .kv_heads = 2, .head_dim = keys, .causal = causal, .value_dim = values};
      const int64_t elements = s.tokens() * s.qkv_cols(), outs = s.tokens() * s.out_cols();
      const int64_t rows = s.batch * s.heads * s.seq;
      const Array qkv = Array::random(bench, Dtype::bf16, kSkipped + elements, 1);
      const Array d_o = Array::random(bench, Dtype::bf16, kSkipped + outs, 2);
      const Array o(bench, Dtype::bf16, zeros(kSkipped + outs)), lse(bench, Dtype::fp32, zeros(kSkipped + rows));
      const Array dqkv(bench, Dtype::bf16, zeros(kSkipped + elements));
      Doubles eo = o.given(), elses = lse.given(), edqkv = dqkv.given();
      attention_forward(bench.stream(), s, past(qkv), past(o), past(lse));
      reference::attention_forward(s, qkv.given().data() + kSkipped, eo.data() + kSkipped, elses.data() + kSkipped);
      bench.expect(name_of(s) + ", aligned, o", o, eo, factor(Dtype::bf16));
      bench.expect(name_of(s) + ", aligned, lse", lse, elses);
      attention_backward(bench.stream(), s, past(qkv), past(o), past(lse), past(d_o), past(dqkv));
      reference::attention_backward(s, qkv.given().data() + kSkipped, d_o.given().data() + kSkipped,
                                    edqkv.data() + kSkipped);
      bench.expect(name_of(s) + ", aligned, dqkv", dqkv, edqkv, factor(Dtype::bf16));
    }
  }
}

struct Part {
  const char* what;
  AttentionPart part;
};

constexpr AttentionShape kShare = {.batch = 2, .seq = 90, .heads = 4, .kv_heads = 2, .head_dim = 16, .value_dim = 24};
constexpr Part kParts[] = {
    {"the own share", {.queries = 90, .keys = 90, .causal = true}},
    {"half of another share", {.queries = 90, .keys = 45}},
    {"late queries", {.first_query = 45, .queries = 45, .keys = 90}},
    {"keys from the middle", {.first_query = 3, .queries = 70, .first_key = 20, .keys = 65}},
    {"no keys", {.queries = 90}},
    {"no queries", {.keys = 90}},
    {"on a diagonal", {.first_query = 10, .queries = 70, .keys = 190, .causal = true, .diagonal = 120, .key_seq = 200}},
    {"a window", {.queries = 90, .keys = 200, .causal = true, .diagonal = 100, .window = 33, .key_seq = 200}},
    {"a jump",
     {.queries = 90, .keys = 270, .causal = true, .diagonal = 45, .key_seq = 270, .jump_at = 45, .jump = 135}},
    {"a jump, a window and documents",
     {.queries = 90,
      .keys = 270,
      .causal = true,
      .diagonal = 45,
      .window = 60,
      .document = 70,
      .key_seq = 270,
      .jump_at = 45,
      .jump = 135}},
};

ConstTensor on_host(const Doubles& x) {
  return {x.data(), Dtype::fp64};
}
Tensor on_host(Doubles& x) {
  return {x.data(), Dtype::fp64};
}

void parts(Bench& bench) {
  const AttentionShape& s = kShare;
  for (const auto& [what, part] : kParts) {
    for (const Dtype d : kElementTypes) {
      const std::string name = std::string("part of attention, ") + what;
      const Array qkv = Array::random(bench, d, s.tokens() * s.qkv_cols(), 1, 2.0);
      const Array d_o = Array::random(bench, d, s.tokens() * s.out_cols(), 3);
      // Nobody reads keys outside the part.
      Doubles keys = random_values(s.batch * part.keys_of(s) * s.kv_cols(), 2, 2.0);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const int64_t key = static_cast<int64_t>(i) / s.kv_cols() % part.keys_of(s);
        keys[i] = key < part.first_key || key >= part.first_key + part.keys ? NAN : keys[i];
      }
      const Array kv(bench, d, keys), o = Array::random(bench, d, d_o.size(), 4);
      const Array lse = Array::unset(bench, wide(d), s.batch * s.heads * s.seq);
      Doubles eo = o.given(), elses = zeros(lse.size());
      attention_part_forward(bench.stream(), s, part, qkv, kv, o, lse);
      kernels::attention_part_forward(s, part, on_host(qkv.given()), on_host(kv.given()), on_host(eo), on_host(elses));
      if (part.keys > 0) {
        bench.expect(name + ", o", o, eo, factor(d));
      }
      bench.expect(name + ", lse", lse, elses);
      for (const bool add : {false, true}) {
        const Array dqkv = Array::random(bench, d, qkv.size(), 5), dkv = Array::unset(bench, d, kv.size());
        Doubles edqkv = dqkv.given(), edkv = zeros(kv.size());
        attention_part_backward(bench.stream(), s, part, qkv, kv, o, lse, d_o, dqkv, dkv, add);
        kernels::attention_part_backward(s, part, on_host(qkv.given()), on_host(kv.given()), on_host(o.read()),
                                         on_host(lse.read()), on_host(d_o.given()), on_host(edqkv), on_host(edkv), add);
        bench.expect(name + ", dq", dqkv, edqkv, factor(d));
        bench.expect(name + ", dkv", dkv, edkv, factor(d));
      }
    }
  }
}

void merge(Bench& bench) {
  const AttentionShape s = {.batch = 2, .seq = 7, .heads = 3, .kv_heads = 3, .head_dim = 4, .value_dim = 40};
  const int64_t parts = 3, rows = s.batch * s.heads * s.seq, elements = s.tokens() * s.out_cols();
  Doubles o_values = random_values(parts * elements, 1), lse_values = random_values(parts * rows, 2, 3.0);
  for (int64_t row = 0; row < rows; row += 3) {  // nobody reads what such a row never wrote
    lse_values[static_cast<std::size_t>(rows + row)] = -INFINITY;
    const int64_t head = row / s.seq % s.heads, token = row / (s.heads * s.seq) * s.seq + row % s.seq;
    for (int64_t c = 0; c < s.v_dim(); ++c) {
      o_values[static_cast<std::size_t>(elements + (token * s.heads + head) * s.v_dim() + c)] = NAN;
    }
  }
  for (const Dtype d : kElementTypes) {
    const Array o_parts(bench, d, o_values), lse_parts(bench, wide(d), lse_values);
    const Array o = Array::unset(bench, d, elements), lse = Array::unset(bench, wide(d), rows);
    Doubles eo = zeros(elements), elses = zeros(rows);
    attention_merge(bench.stream(), s, parts, o_parts, lse_parts, o, lse);
    kernels::attention_merge(s, parts, on_host(o_parts.given()), on_host(lse_parts.given()), on_host(eo),
                             on_host(elses));
    bench.expect("attention_merge, o", o, eo);
    bench.expect("attention_merge, lse", lse, elses);
  }
}

void sinks(Bench& bench) {
  for (const AttentionShape& s : {AttentionShape{.batch = 2, .seq = 37, .heads = 3, .kv_heads = 3, .head_dim = 40},
                                  AttentionShape{.batch = 0, .seq = 3, .heads = 2, .kv_heads = 2, .head_dim = 8}}) {
    for (const Dtype d : kElementTypes) {
      for (const Dtype parameter : parameter_types(d)) {
        const Array sink = Array::random(bench, parameter, s.heads, 1, 2.0);
        const Array o = Array::random(bench, d, s.tokens() * s.out_cols(), 2);
        const Array lse = Array::random(bench, wide(d), s.batch * s.heads * s.seq, 3, 2.0);
        Doubles eo = o.given(), elses = lse.given();
        attention_sinks_forward(bench.stream(), s, sink, o, lse);
        kernels::attention_sinks_forward(s, on_host(sink.given()), on_host(eo), on_host(elses));
        bench.expect("attention_sinks, o", o, eo);
        bench.expect("attention_sinks, lse", lse, elses);
        const Array d_o = Array::random(bench, d, o.size(), 4), d_sinks = Array::random(bench, wide(d), s.heads, 5);
        Doubles expected = d_sinks.given();
        attention_sinks_backward(bench.stream(), s, sink, o, lse, d_o, d_sinks);
        kernels::attention_sinks_backward(s, on_host(sink.given()), on_host(o.read()), on_host(lse.read()),
                                          on_host(d_o.given()), on_host(expected));
        bench.expect("attention_sinks, d_sinks", d_sinks, expected);
      }
    }
  }
}

void unfused(Bench& bench) {
  for_cases([&](const AttentionShape& s, Dtype d, const std::string& what) {
    const Array qkv = Array::random(bench, d, s.tokens() * s.qkv_cols(), 1, 2.0);
    const Array d_o = Array::random(bench, d, s.tokens() * s.out_cols(), 2);
    const int64_t scores = s.score_elements();
    for (const Dtype score_type : parameter_types(d)) {
      const Array x = Array::unset(bench, score_type, scores), o = Array::unset(bench, d, d_o.size());
      Doubles expected = zeros(scores), eo = zeros(o.size());
      attention_scores(bench.stream(), s, qkv, x);
      reference::attention_scores(s, qkv.given().data(), expected.data());
      bench.expect(what + ", scores", x, expected);

      const Array fused(bench, score_type, x.read()), p = Array::unset(bench, score_type, scores);
      expected = x.read();
      attention_scale_mask(bench.stream(), s, x);
      reference::attention_scale_mask(s, expected.data());
      bench.expect(what + ", scale, mask", x, expected);
      attention_scale_mask_softmax(bench.stream(), s, fused, fused);
      reference::attention_softmax(s, expected.data(), expected.data());
      bench.expect(what + ", scale, mask, softmax", fused, expected);
      expected = x.read();
      attention_softmax(bench.stream(), s, x, p);
      reference::attention_softmax(s, expected.data(), expected.data());
      bench.expect(what + ", softmax", p, expected);
      const Doubles weights = p.read();
      attention_context(bench.stream(), s, p, qkv, o);
      reference::attention_context(s, weights.data(), qkv.given().data(), eo.data());
      bench.expect(what + ", context", o, eo);

      const Array dp = Array::unset(bench, score_type, scores), ds = Array::unset(bench, score_type, scores);
      const Array dqkv = Array::unset(bench, d, qkv.size());
      Doubles edqkv = zeros(qkv.size());
      attention_context_backward(bench.stream(), s, p, qkv, d_o, dp, dqkv);
      reference::attention_context_backward(s, weights.data(), qkv.given().data(), d_o.given().data(), expected.data(),
                                            edqkv.data());
      bench.expect(what + ", dp", dp, expected);
      const Doubles given_dp = dp.read();
      attention_softmax_backward(bench.stream(), s, p, dp, ds);
      reference::attention_softmax_backward(s, weights.data(), given_dp.data(), expected.data());
      bench.expect(what + ", ds", ds, expected);
      attention_scale_mask_softmax_backward(bench.stream(), s, p, dp, dp);
      reference::attention_scale_mask_backward(s, expected.data());
      bench.expect(what + ", ds, scale, mask", dp, expected);
      expected = ds.read();
      attention_scale_mask_backward(bench.stream(), s, ds);
      reference::attention_scale_mask_backward(s, expected.data());
      bench.expect(what + ", scale, mask backward", ds, expected);
      const Doubles given_ds = ds.read();
      attention_scores_backward(bench.stream(), s, ds, qkv, dqkv);
      reference::attention_scores_backward(s, given_ds.data(), qkv.given().data(), edqkv.data());
      bench.expect(what + ", dqkv", dqkv, edqkv);
    }
  });
}

constexpr Check kChecks[] = {
    {"attention", flash},         {"attention, aligned", aligned}, {"attention, parts", parts},
    {"attention, merged", merge}, {"attention, sinks", sinks},     {"attention, unfused", unfused},
};

}  // namespace

std::span<const Check> attention_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
