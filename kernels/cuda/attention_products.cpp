// The matrix products of unfused attention: of all heads of a sequence that have keys of their own in one, and of the
// heads of a group one after the other.
#include "kernels/arguments.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/matmul.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

ConstTensor offset(ConstTensor t, int64_t elements) {
  return {static_cast<const char*>(t.data) + size_bytes(t.dtype, elements), t.dtype};
}
Tensor offset(Tensor t, int64_t elements) {
  return {static_cast<char*>(t.data) + size_bytes(t.dtype, elements), t.dtype};
}

// Of one sequence, the heads `member` of all groups: where the first one's pieces stand, in elements, and how far the
// next one's are.
struct Member {
  int64_t q, k, v, out, scores;
  bool is_first;
};

struct Strides {
  int64_t q, kv_k, kv_v, out, scores;

  explicit Strides(const AttentionShape& s)
      : q(group(s) * s.head_dim),
        kv_k(s.head_dim),
        kv_v(s.v_dim()),
        out(group(s) * s.v_dim()),
        scores(group(s) * s.seq * s.seq) {}
  static int64_t group(const AttentionShape& s) { return s.heads / s.kv_heads; }
};

template <class F>
void for_members(const AttentionShape& s, F f) {
  for (int64_t b = 0; s.heads > 0 && b < s.batch; ++b) {
    const int64_t row = b * s.seq * s.qkv_cols();
    for (int64_t member = 0; member < Strides::group(s); ++member) {
      f(Member{.q = row + member * s.head_dim,
               .k = row + s.q_cols(),
               .v = row + s.q_cols() + s.kv_heads * s.head_dim,
               .out = b * s.seq * s.out_cols() + member * s.v_dim(),
               .scores = (b * s.heads + member) * s.seq * s.seq,
               .is_first = member == 0},
        Strides(s));
    }
  }
}

// [seq, seq] = rows [seq, dim] times columns [seq, dim]^T.
MatmulShape scores_shape(const AttentionShape& s, int64_t dim, int64_t lda, int64_t stride_a, int64_t stride_b) {
  return {.m = s.seq,
          .n = s.seq,
          .k = dim,
          .transpose_b = true,
          .lda = lda,
          .ldb = s.qkv_cols(),
          .batch = s.kv_heads,
          .stride_a = stride_a,
          .stride_b = stride_b,
          .stride_c = Strides(s).scores};
}

// [seq, dim] = scores [seq, seq] (or their transpose) times [seq, dim].
MatmulShape heads_shape(const AttentionShape& s, int64_t dim, bool transpose, int64_t ldb, int64_t ldc,
                        int64_t stride_b, int64_t stride_c) {
  return {.m = s.seq,
          .n = dim,
          .k = s.seq,
          .transpose_a = transpose,
          .ldb = ldb,
          .ldc = ldc,
          .batch = s.kv_heads,
          .stride_a = Strides(s).scores,
          .stride_b = stride_b,
          .stride_c = stride_c};
}

// out = sum over a group's heads of scores^T [seq, seq] times [seq, dim], the heads' matrices one after the other.
// Where out is bf16, adding into it would round once per head.
void group_sum(const Stream& stream, const AttentionShape& s, const MatmulShape& product, const Member& member,
               ConstTensor scores, ConstTensor right, int64_t dim, Tensor out) {
  const int64_t group = Strides::group(s);
  if (group == 1 || out.dtype == wide(out.dtype)) {
    matmul(stream, product, scores, right, {}, out, !member.is_first);
  } else if (member.is_first) {
    matmul_plain(stream, product, {group, s.seq * s.seq, dim}, scores, right, {}, out, false);
  }
}

}  // namespace

void attention_scores(const Stream& stream, const AttentionShape& s, ConstTensor qkv, Tensor scores) {
  arguments::attention_scores(s, qkv, scores);
  for_members(s, [&](const Member& m, const Strides& next) {
    matmul(stream, scores_shape(s, s.head_dim, s.qkv_cols(), next.q, next.kv_k), offset(qkv, m.q), offset(qkv, m.k), {},
           offset(scores, m.scores), false);
  });
}

void attention_context(const Stream& stream, const AttentionShape& s, ConstTensor p, ConstTensor qkv, Tensor o) {
  arguments::attention_context(s, p, qkv, o);
  for_members(s, [&](const Member& m, const Strides& next) {
    matmul(stream, heads_shape(s, s.v_dim(), false, s.qkv_cols(), s.out_cols(), next.kv_v, next.out),
           offset(p, m.scores), offset(qkv, m.v), {}, offset(o, m.out), false);
  });
}

void attention_context_backward(const Stream& stream, const AttentionShape& s, ConstTensor p, ConstTensor qkv,
                                ConstTensor d_o, Tensor dp, Tensor dqkv) {
  arguments::attention_context_backward(s, p, qkv, d_o, dp, dqkv);
  for_members(s, [&](const Member& m, const Strides& next) {
    matmul(stream, scores_shape(s, s.v_dim(), s.out_cols(), next.out, next.kv_v), offset(d_o, m.out), offset(qkv, m.v),
           {}, offset(dp, m.scores), false);
    group_sum(stream, s, heads_shape(s, s.v_dim(), true, s.out_cols(), s.qkv_cols(), next.out, next.kv_v), m,
              offset(p, m.scores), offset(d_o, m.out), s.v_dim(), offset(dqkv, m.v));
  });
}

void attention_scores_backward(const Stream& stream, const AttentionShape& s, ConstTensor ds, ConstTensor qkv,
                               Tensor dqkv) {
  arguments::attention_scores_backward(s, ds, qkv, dqkv);
  for_members(s, [&](const Member& m, const Strides& next) {
    matmul(stream, heads_shape(s, s.head_dim, false, s.qkv_cols(), s.qkv_cols(), next.kv_k, next.q),
           offset(ds, m.scores), offset(qkv, m.k), {}, offset(dqkv, m.q), false);
    group_sum(stream, s, heads_shape(s, s.head_dim, true, s.qkv_cols(), s.qkv_cols(), next.q, next.kv_k), m,
              offset(ds, m.scores), offset(qkv, m.q), s.head_dim, offset(dqkv, m.k));
  });
}

}  // namespace foretrain::kernels::cuda
