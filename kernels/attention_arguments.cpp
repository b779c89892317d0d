// Of attention cut along the sequence, and of the products of unfused attention.
#include "base/error.h"
#include "kernels/arguments.h"
#include "kernels/launch.h"

namespace foretrain::kernels::arguments {

namespace {

void check_part(const char* op, const AttentionShape& s, const AttentionPart& p) {
  const auto inside = [](std::int64_t first, std::int64_t count, std::int64_t all) {
    return first >= 0 && count >= 0 && first + count <= all;
  };
  CHECK(inside(p.first_query, p.queries, s.seq) && inside(p.first_key, p.keys, p.keys_of(s)),
        "{}: queries {} + {} of {}, keys {} + {} of {}", op, p.first_query, p.queries, s.seq, p.first_key, p.keys,
        p.keys_of(s));
  CHECK(!p.causal || (p.diagonal >= 0 && p.jump >= 0 && p.jump_at >= 0 && p.queries + p.diagonal + p.jump <= p.keys),
        "{}: {} queries from {} on, and {} further, and {} keys under a causal mask; each sees its own key", op,
        p.queries, p.diagonal, p.jump, p.keys);
  CHECK(p.window == 0 || (p.window > 0 && p.causal), "{}: window {}; it needs a causal mask", op, p.window);
  CHECK(p.document == 0 || (p.document > 0 && p.causal && p.first_key == 0),
        "{}: documents of {}; they need a causal mask, and keys from the first on", op, p.document);
}

void check_rows(const char* op, const AttentionShape& s, const AttentionRows& r, ConstTensor bias) {
  check_sizes(op, {r.key_seq, r.ld_q - s.q_cols(), r.ld_kv - s.kv_cols()});
  CHECK(s.window == 0 && s.document == 0, "{}: window {} and document {}; expected 0", op, s.window, s.document);
  CHECK(!s.causal || s.seq == r.key_seq, "{}: {} queries and {} keys under a causal mask; expected as many", op, s.seq,
        r.key_seq);
  CHECK(!bias || r.key_seq > 0, "{}: a bias for no keys", op);
}

void check_relative_bias(const char* op, const RelativeBiasShape& s) {
  check_sizes(op, {s.heads, s.seq - 1, s.key_seq - 1});
  const std::int64_t of_side = s.bidirectional ? s.buckets / 2 : s.buckets;
  CHECK(of_side >= 2 && s.max_distance > of_side / 2, "{}: {} buckets up to a distance of {}", op, s.buckets,
        s.max_distance);
}

}  // namespace

void attention_rows_forward(const AttentionShape& s, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                            ConstTensor bias, Tensor o, Tensor lse) {
  const char* const op = "attention_rows_forward";
  check_attention(op, s, q.dtype, {});
  check_same(op, q.dtype, {kv.dtype, o.dtype});
  check_wide(op, q.dtype, {lse.dtype, bias ? bias.dtype : lse.dtype});
  check_rows(op, s, rows, bias);
}

void attention_rows_backward(const AttentionShape& s, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                             ConstTensor bias, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dq, Tensor dkv,
                             Tensor d_bias) {
  const char* const op = "attention_rows_backward";
  check_attention(op, s, q.dtype, {});
  check_same(op, q.dtype, {kv.dtype, o.dtype, d_o.dtype, dq.dtype, dkv.dtype});
  check_wide(op, q.dtype, {lse.dtype, bias ? bias.dtype : lse.dtype, bias ? d_bias.dtype : lse.dtype});
  check_rows(op, s, rows, bias);
}

void relative_bias_forward(const RelativeBiasShape& s, ConstTensor table, Tensor bias) {
  check_relative_bias("relative_bias_forward", s);
  check_wide("relative_bias_forward", table.dtype, {bias.dtype});
}

void relative_bias_backward(const RelativeBiasShape& s, ConstTensor d_bias, Tensor d_table) {
  check_relative_bias("relative_bias_backward", s);
  check_wide("relative_bias_backward", d_bias.dtype, {d_bias.dtype, d_table.dtype});
}

void attention_part_forward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                            Tensor o, Tensor lse) {
  check_attention("attention_part_forward", s, qkv.dtype, {});
  check_same("attention_part_forward", qkv.dtype, {kv.dtype, o.dtype});
  check_wide("attention_part_forward", qkv.dtype, {lse.dtype});
  check_part("attention_part_forward", s, part);
}

void attention_part_backward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                             ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv, Tensor dkv, bool) {
  check_attention("attention_part_backward", s, qkv.dtype, {});
  check_same("attention_part_backward", qkv.dtype, {kv.dtype, o.dtype, d_o.dtype, dqkv.dtype, dkv.dtype});
  check_wide("attention_part_backward", qkv.dtype, {lse.dtype});
  check_part("attention_part_backward", s, part);
}

void attention_merge(const AttentionShape& s, std::int64_t parts, ConstTensor o_parts, ConstTensor lse_parts, Tensor o,
                     Tensor lse) {
  check_attention("attention_merge", s, o.dtype, {});
  check_same("attention_merge", o.dtype, {o_parts.dtype});
  check_wide("attention_merge", o.dtype, {lse_parts.dtype, lse.dtype});
  check_sizes("attention_merge", {parts});
}

void attention_sinks_forward(const AttentionShape& s, ConstTensor sinks, Tensor o, Tensor lse) {
  check_attention("attention_sinks_forward", s, o.dtype, {sinks.dtype});
  check_wide("attention_sinks_forward", o.dtype, {lse.dtype});
}

void attention_sinks_backward(const AttentionShape& s, ConstTensor sinks, ConstTensor o, ConstTensor lse,
                              ConstTensor d_o, Tensor d_sinks) {
  check_attention("attention_sinks_backward", s, o.dtype, {sinks.dtype});
  check_same("attention_sinks_backward", o.dtype, {d_o.dtype});
  check_wide("attention_sinks_backward", o.dtype, {lse.dtype, d_sinks.dtype});
}

void attention_scores(const AttentionShape& s, ConstTensor qkv, Tensor scores) {
  check_attention("attention_scores", s, qkv.dtype, {scores.dtype});
}

void attention_context(const AttentionShape& s, ConstTensor p, ConstTensor qkv, Tensor o) {
  check_attention("attention_context", s, qkv.dtype, {p.dtype, o.dtype});
}

void attention_context_backward(const AttentionShape& s, ConstTensor p, ConstTensor qkv, ConstTensor d_o, Tensor dp,
                                Tensor dqkv) {
  check_attention("attention_context_backward", s, qkv.dtype, {p.dtype, d_o.dtype, dp.dtype, dqkv.dtype});
}

void attention_scores_backward(const AttentionShape& s, ConstTensor ds, ConstTensor qkv, Tensor dqkv) {
  check_attention("attention_scores_backward", s, qkv.dtype, {ds.dtype, dqkv.dtype});
}

}  // namespace foretrain::kernels::arguments
