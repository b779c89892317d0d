#include "kernels/cuda/attention_graph.h"

#include <utility>

namespace foretrain::kernels::cuda {

namespace {

using Id = GraphTensorId;
using Kind = GraphOpKind;
using Four = std::array<std::int64_t, 4>;

bool is_fit(const AttentionShape& s) {
  constexpr std::int64_t kPiece = 8;  // elements
  return s.tokens() > 0 && s.heads > 0 && s.window == 0 && s.document == 0 && s.head_dim % kPiece == 0 &&
         s.v_dim() % kPiece == 0;
}

Four swapped(Four x) {
  std::swap(x[2], x[3]);
  return x;
}

class Builder {
 public:
  Builder(const AttentionShape& shape, const AttentionPortion& portion)
      : s_(shape),
        sequences_(portion.sequences),
        kv_heads_(portion.kv_heads),
        heads_(kv_heads_ * s_.heads / s_.kv_heads) {}

  void op(Kind kind, Id x, Id y, std::optional<Id> b = {}, std::optional<Id> t = {}) {
    graph_.ops.push_back({kind, x, y, b, t});
  }
  void tensor(Id id, GraphType type, Four dims, Four strides) { graph_.tensors.push_back({id, type, dims, strides}); }
  void scalar(Id id) { tensor(id, GraphType::fp32, {1, 1, 1, 1}, {1, 1, 1, 1}); }

  // Of packed rows, of outputs, of statistics: the whole's strides.
  void queries(Id id) { rows(id, heads_, s_.head_dim, s_.qkv_cols()); }
  void keys(Id id) { rows(id, kv_heads_, s_.head_dim, s_.qkv_cols()); }
  void values(Id id) { rows(id, kv_heads_, s_.v_dim(), s_.qkv_cols()); }
  void outs(Id id) { rows(id, heads_, s_.v_dim(), s_.out_cols()); }
  void keys_transposed(Id id) { turned(id, s_.head_dim); }
  void values_transposed(Id id) { turned(id, s_.v_dim()); }
  void statistics(Id id) {
    tensor(id, GraphType::fp32, {sequences_, heads_, s_.seq, 1}, {s_.heads * s_.seq, s_.seq, 1, 1});
  }

  // On their own, one after the other.
  Four heads_dims(std::int64_t columns) const { return {sequences_, heads_, s_.seq, columns}; }
  void compact(Id id, GraphType type, std::int64_t columns) {
    tensor(id, type, heads_dims(columns), {heads_ * s_.seq * columns, s_.seq * columns, columns, 1});
  }
  void of_scores(Id id, GraphType type = GraphType::fp32) { compact(id, type, s_.seq); }
  void of_rows(Id id) { compact(id, GraphType::fp32, 1); }
  void scores_transposed(Id id) {
    const Four dims = heads_dims(s_.seq);
    tensor(id, GraphType::bf16, dims, swapped({dims[1] * s_.seq * s_.seq, s_.seq * s_.seq, s_.seq, 1}));
  }

  // Where a key is behind its query, `from` becomes -inf in the tensor that is returned.
  Id masked(Id from) {
    if (!s_.causal) {
      return from;
    }
    scalar(Id::minus_infinity);
    of_scores(Id::row, GraphType::i32);
    of_scores(Id::column, GraphType::i32);
    of_scores(Id::visible, GraphType::boolean);
    of_scores(Id::masked);
    op(Kind::row_index, from, Id::row);
    op(Kind::column_index, from, Id::column);
    op(Kind::greater_equal, Id::row, Id::visible, Id::column);
    op(Kind::select, from, Id::masked, Id::minus_infinity, Id::visible);
    return Id::masked;
  }
  // left times right into `to`, of a head of keys or values: `of_heads`, one per query head, added up where these share
  // one.
  void product_of_group(Id left, Id right, Id of_heads, std::int64_t columns, Id to) {
    if (heads_ == kv_heads_) {
      op(Kind::matmul, left, to, right);
    } else {
      compact(of_heads, GraphType::bf16, columns);
      op(Kind::matmul, left, of_heads, right);
      op(Kind::sum, of_heads, to);
    }
  }

  AttentionGraph take() { return std::move(graph_); }

 private:
  void rows(Id id, std::int64_t heads, std::int64_t columns, std::int64_t ld) {
    tensor(id, GraphType::bf16, {sequences_, heads, s_.seq, columns}, {s_.seq * ld, columns, ld, 1});
  }
  void turned(Id id, std::int64_t columns) {
    const std::int64_t ld = s_.qkv_cols();
    tensor(id, GraphType::bf16, {sequences_, kv_heads_, columns, s_.seq}, {s_.seq * ld, columns, 1, ld});
  }

  const AttentionShape& s_;
  std::int64_t sequences_, kv_heads_, heads_;
  AttentionGraph graph_;
};

}  // namespace

std::optional<AttentionGraph> attention_graph(const AttentionShape& s) {
  if (!is_fit(s)) {
    return std::nullopt;
  }
  Builder build(s, {s.batch, s.kv_heads});
  build.queries(Id::q);
  build.keys_transposed(Id::k);
  build.values(Id::v);
  build.outs(Id::o);
  build.statistics(Id::lse);
  build.scalar(Id::scale);
  build.of_scores(Id::scores);
  build.of_scores(Id::scaled);
  build.op(Kind::matmul, Id::q, Id::scores, Id::k);
  build.op(Kind::multiply, Id::scores, Id::scaled, Id::scale);
  const Id last = build.masked(Id::scaled);
  build.of_rows(Id::maximum);
  build.of_scores(Id::distance);
  build.of_scores(Id::exponential);
  build.of_rows(Id::sum);
  build.of_rows(Id::log);
  build.of_scores(Id::weights, GraphType::bf16);
  build.op(Kind::row_maximum, last, Id::maximum);
  build.op(Kind::subtract, last, Id::distance, Id::maximum);
  build.op(Kind::exp, Id::distance, Id::exponential);
  build.op(Kind::sum, Id::exponential, Id::sum);
  build.op(Kind::log, Id::sum, Id::log);
  build.op(Kind::add, Id::maximum, Id::lse, Id::log);
  build.op(Kind::divide, Id::exponential, Id::weights, Id::sum);
  build.op(Kind::matmul, Id::weights, Id::o, Id::v);
  return build.take();
}

std::vector<AttentionPortion> attention_portions(const AttentionShape& s) {
  constexpr std::int64_t kPiece = 4;  // statistics of 16 bytes, where the next portion's begin
  std::vector<AttentionPortion> portions;
  const auto add = [&](AttentionPortion portion) {
    const bool is_all = portion.sequences == s.batch && portion.kv_heads == s.kv_heads;
    if (is_all || portion.dots(s) % kPiece == 0) {
      portions.push_back(portion);
    }
  };
  for (std::int64_t sequences = s.batch; sequences > 0; --sequences) {
    if (s.batch % sequences == 0) {
      add({sequences, s.kv_heads});
    }
  }
  for (std::int64_t heads = s.kv_heads - 1; heads > 0; --heads) {
    if (s.kv_heads % heads == 0) {
      add({1, heads});
    }
  }
  return portions;
}

// The weights again, from lse; then each gradient's product.
AttentionGraph attention_backward_graph(const AttentionShape& s, const AttentionPortion& portion) {
  Builder build(s, portion);
  build.queries(Id::q);
  build.keys_transposed(Id::k);
  build.values_transposed(Id::v);
  build.outs(Id::o);
  build.outs(Id::d_o);
  build.statistics(Id::lse);
  build.queries(Id::dq);
  build.keys(Id::dk);
  build.values(Id::dv);
  build.scalar(Id::scale);
  build.scalar(Id::one);

  build.compact(Id::products, GraphType::fp32, s.v_dim());
  build.of_rows(Id::plain_dots);
  build.of_rows(Id::dots);
  build.op(Kind::multiply, Id::d_o, Id::products, Id::o);
  build.op(Kind::sum, Id::products, Id::plain_dots);
  build.op(Kind::multiply, Id::plain_dots, Id::dots, Id::one);

  build.of_scores(Id::scores);
  build.of_scores(Id::scaled);
  build.of_scores(Id::distance);
  build.op(Kind::matmul, Id::q, Id::scores, Id::k);
  build.op(Kind::multiply, Id::scores, Id::scaled, Id::scale);
  build.op(Kind::subtract, Id::scaled, Id::distance, Id::lse);
  const Id last = build.masked(Id::distance);
  build.of_scores(Id::weights);
  build.op(Kind::exp, last, Id::weights);
  build.scores_transposed(Id::weights_transposed);
  build.op(Kind::transpose, Id::weights, Id::weights_transposed);
  build.product_of_group(Id::weights_transposed, Id::d_o, Id::dv_of_heads, s.v_dim(), Id::dv);

  build.of_scores(Id::dp);
  build.of_scores(Id::dp_distance);
  build.of_scores(Id::ds);
  build.of_scores(Id::ds_scaled);
  build.op(Kind::matmul, Id::d_o, Id::dp, Id::v);
  build.op(Kind::subtract, Id::dp, Id::dp_distance, Id::dots);
  build.op(Kind::multiply, Id::dp_distance, Id::ds, Id::weights);
  build.op(Kind::multiply, Id::ds, Id::ds_scaled, Id::scale);
  build.scores_transposed(Id::ds_transposed);
  build.op(Kind::transpose, Id::ds_scaled, Id::ds_transposed);
  build.product_of_group(Id::ds_transposed, Id::q, Id::dk_of_heads, s.head_dim, Id::dk);

  build.keys(Id::k_rows);
  build.compact(Id::dq_sums, GraphType::fp32, s.head_dim);
  build.op(Kind::transpose, Id::k, Id::k_rows);
  build.op(Kind::matmul, Id::ds_scaled, Id::dq_sums, Id::k_rows);
  build.op(Kind::copy, Id::dq_sums, Id::dq);
  return build.take();
}

}  // namespace foretrain::kernels::cuda
