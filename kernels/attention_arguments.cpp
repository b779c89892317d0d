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

}  // namespace

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
