// The matrix products of unfused attention: one per head, through matmul, so that every element type takes its best
// path.
#include "kernels/arguments.h"
#include "kernels/kernels.h"
#include "kernels/scratch.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

ConstTensor offset(ConstTensor t, int64_t elements) {
  return {static_cast<const char*>(t.data) + size_bytes(t.dtype, elements), t.dtype};
}
Tensor offset(Tensor t, int64_t elements) {
  return {static_cast<char*>(t.data) + size_bytes(t.dtype, elements), t.dtype};
}

// Where the pieces of one head of one sequence start, in elements.
struct Head {
  int64_t q, k, v, out, scores;
  bool first_of_group, last_of_group;
};

template <class F>
void for_heads(const AttentionShape& s, F f) {
  const int64_t group = s.kv_heads > 0 ? s.heads / s.kv_heads : 1;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t row = b * s.seq * s.qkv_cols();
      f(Head{.q = row + h * s.head_dim,
             .k = row + (s.heads + h / group) * s.head_dim,
             .v = row + (s.heads + s.kv_heads) * s.head_dim + h / group * s.v_dim(),
             .out = b * s.seq * s.out_cols() + h * s.v_dim(),
             .scores = (b * s.heads + h) * s.seq * s.seq,
             .first_of_group = h % group == 0,
             .last_of_group = h % group == group - 1});
    }
  }
}

// [seq, seq] = rows [seq, dim] times columns [seq, dim]^T.
MatmulShape scores_shape(const AttentionShape& s, int64_t dim, int64_t lda, int64_t ldb) {
  return {.m = s.seq, .n = s.seq, .k = dim, .transpose_b = true, .lda = lda, .ldb = ldb};
}

// [seq, dim] = scores [seq, seq] (or their transpose) times [seq, dim].
MatmulShape heads_shape(const AttentionShape& s, int64_t dim, bool transpose, int64_t ldb, int64_t ldc) {
  return {.m = s.seq, .n = dim, .k = s.seq, .transpose_a = transpose, .ldb = ldb, .ldc = ldc};
}

// Adds the products scores^T [seq, seq] times [seq, dim] of a group's heads up in the wide type, in order, and
// writes the sum with one rounding: where the output is bf16, adding into it would round once per head.
class GroupSum {
 public:
  GroupSum(const AttentionShape& s, int64_t dim, Dtype out)
      : shape_(s), dim_(dim), direct_(s.heads == s.kv_heads || out == wide(out)), sum_{nullptr, wide(out)} {
    if (!direct_) {
      sum_.data = scratch(Scratch::op, static_cast<std::size_t>(size_bytes(sum_.dtype, s.seq * dim)));
    }
  }

  void add(const Head& head, ConstTensor scores, ConstTensor right, int64_t ld_right, Tensor out) {
    const int64_t ld = shape_.qkv_cols();
    if (direct_) {
      matmul(heads_shape(shape_, dim_, true, ld_right, ld), scores, right, {}, out, !head.first_of_group);
      return;
    }
    matmul(heads_shape(shape_, dim_, true, ld_right, dim_), scores, right, {}, sum_, !head.first_of_group);
    for (int64_t row = 0; head.last_of_group && row < shape_.seq; ++row) {
      cast(offset(ConstTensor(sum_), row * dim_), offset(out, row * ld), dim_);
    }
  }

 private:
  const AttentionShape& shape_;
  int64_t dim_;
  bool direct_;
  Tensor sum_;
};

}  // namespace

void attention_scores(const AttentionShape& s, ConstTensor qkv, Tensor scores) {
  arguments::attention_scores(s, qkv, scores);
  for_heads(s, [&](const Head& h) {
    matmul(scores_shape(s, s.head_dim, s.qkv_cols(), s.qkv_cols()), offset(qkv, h.q), offset(qkv, h.k), {},
           offset(scores, h.scores), false);
  });
}

void attention_context(const AttentionShape& s, ConstTensor p, ConstTensor qkv, Tensor o) {
  arguments::attention_context(s, p, qkv, o);
  for_heads(s, [&](const Head& h) {
    matmul(heads_shape(s, s.v_dim(), false, s.qkv_cols(), s.out_cols()), offset(p, h.scores), offset(qkv, h.v), {},
           offset(o, h.out), false);
  });
}

void attention_context_backward(const AttentionShape& s, ConstTensor p, ConstTensor qkv, ConstTensor d_o, Tensor dp,
                                Tensor dqkv) {
  arguments::attention_context_backward(s, p, qkv, d_o, dp, dqkv);
  GroupSum dv(s, s.v_dim(), dqkv.dtype);
  for_heads(s, [&](const Head& h) {
    matmul(scores_shape(s, s.v_dim(), s.out_cols(), s.qkv_cols()), offset(d_o, h.out), offset(qkv, h.v), {},
           offset(dp, h.scores), false);
    dv.add(h, offset(p, h.scores), offset(d_o, h.out), s.out_cols(), offset(dqkv, h.v));
  });
}

void attention_scores_backward(const AttentionShape& s, ConstTensor ds, ConstTensor qkv, Tensor dqkv) {
  arguments::attention_scores_backward(s, ds, qkv, dqkv);
  GroupSum dk(s, s.head_dim, dqkv.dtype);
  for_heads(s, [&](const Head& h) {
    matmul(heads_shape(s, s.head_dim, false, s.qkv_cols(), s.qkv_cols()), offset(ds, h.scores), offset(qkv, h.k), {},
           offset(dqkv, h.q), false);
    dk.add(h, offset(ds, h.scores), offset(qkv, h.q), s.qkv_cols(), offset(dqkv, h.k));
  });
}

}  // namespace foretrain::kernels
