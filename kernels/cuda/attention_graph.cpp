#include "kernels/cuda/attention_graph.h"

namespace foretrain::kernels::cuda {

namespace {

using Id = GraphTensorId;
using Kind = GraphOpKind;

bool is_fit(const AttentionShape& s) {
  constexpr std::int64_t kPiece = 8;  // elements
  return s.tokens() > 0 && s.heads > 0 && s.window == 0 && s.document == 0 && s.head_dim % kPiece == 0 &&
         s.v_dim() % kPiece == 0;
}

}  // namespace

std::optional<AttentionGraph> attention_graph(const AttentionShape& s) {
  if (!is_fit(s)) {
    return std::nullopt;
  }
  AttentionGraph graph;
  const std::int64_t ld = s.qkv_cols(), ld_o = s.out_cols(), rows = s.heads * s.seq;
  const auto stored = [&](Id id, GraphType type, std::array<std::int64_t, 4> dims,
                          std::array<std::int64_t, 4> strides) {
    graph.tensors.push_back({id, type, dims, strides});
  };
  const auto of_scores = [&](Id id, GraphType type) {
    stored(id, type, {s.batch, s.heads, s.seq, s.seq}, {rows * s.seq, s.seq * s.seq, s.seq, 1});
  };
  const auto of_rows = [&](Id id) { stored(id, GraphType::fp32, {s.batch, s.heads, s.seq, 1}, {rows, s.seq, 1, 1}); };
  const auto op = [&](Kind kind, Id x, Id y, std::optional<Id> b = {}, std::optional<Id> t = {}) {
    graph.ops.push_back({kind, x, y, b, t});
  };
  const auto scalar = [&](Id id) { stored(id, GraphType::fp32, {1, 1, 1, 1}, {1, 1, 1, 1}); };

  stored(Id::q, GraphType::bf16, {s.batch, s.heads, s.seq, s.head_dim}, {s.seq * ld, s.head_dim, ld, 1});
  stored(Id::k, GraphType::bf16, {s.batch, s.kv_heads, s.head_dim, s.seq}, {s.seq * ld, s.head_dim, 1, ld});
  stored(Id::v, GraphType::bf16, {s.batch, s.kv_heads, s.seq, s.v_dim()}, {s.seq * ld, s.v_dim(), ld, 1});
  stored(Id::o, GraphType::bf16, {s.batch, s.heads, s.seq, s.v_dim()}, {s.seq * ld_o, s.v_dim(), ld_o, 1});
  of_rows(Id::lse);
  scalar(Id::scale);
  of_scores(Id::scores, GraphType::fp32);
  of_scores(Id::scaled, GraphType::fp32);
  op(Kind::matmul, Id::q, Id::scores, Id::k);
  op(Kind::multiply, Id::scores, Id::scaled, Id::scale);
  Id last = Id::scaled;
  if (s.causal) {
    scalar(Id::minus_infinity);
    of_scores(Id::row, GraphType::i32);
    of_scores(Id::column, GraphType::i32);
    of_scores(Id::visible, GraphType::boolean);
    of_scores(Id::masked, GraphType::fp32);
    op(Kind::row_index, Id::scaled, Id::row);
    op(Kind::column_index, Id::scaled, Id::column);
    op(Kind::greater_equal, Id::row, Id::visible, Id::column);
    op(Kind::select, Id::scaled, Id::masked, Id::minus_infinity, Id::visible);
    last = Id::masked;
  }
  of_rows(Id::maximum);
  of_scores(Id::distance, GraphType::fp32);
  of_scores(Id::exponential, GraphType::fp32);
  of_rows(Id::sum);
  of_rows(Id::log);
  of_scores(Id::weights, GraphType::bf16);
  op(Kind::row_maximum, last, Id::maximum);
  op(Kind::subtract, last, Id::distance, Id::maximum);
  op(Kind::exp, Id::distance, Id::exponential);
  op(Kind::row_sum, Id::exponential, Id::sum);
  op(Kind::log, Id::sum, Id::log);
  op(Kind::add, Id::maximum, Id::lse, Id::log);
  op(Kind::divide, Id::exponential, Id::weights, Id::sum);
  op(Kind::matmul, Id::weights, Id::o, Id::v);
  return graph;
}

}  // namespace foretrain::kernels::cuda
