// Attention as cuDNN is asked for it: scores, scale, causal mask, softmax and products as operations on tensors that
// exist in registers only, which its flash attention engines recognise (cuDNN documentation, "Fused Flash Attention
// fprop" and "bprop"). The backward's engines add up dq in an order that changes; for one that does not they would need
// a workspace of seq x seq.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

// Those with memory (scale, one and minus_infinity: a float of the host's), then those without.
enum class GraphTensorId : std::int64_t {
  q = 1,
  k,
  v,
  o,
  lse,
  d_o,
  dq,
  dk,
  dv,
  dots,
  dq_sums,
  scale,
  one,
  minus_infinity,
  scores,
  scaled,
  row,
  column,
  visible,
  masked,
  maximum,
  distance,
  exponential,
  sum,
  log,
  weights,
  products,
  plain_dots,
  weights_transposed,
  dv_of_heads,
  dp,
  dp_distance,
  ds,
  ds_scaled,
  ds_transposed,
  dk_of_heads,
  k_rows,
};

enum class GraphType : std::uint8_t { bf16, fp32, i32, boolean };

// [batch, heads, rows, columns].
struct GraphTensor {
  GraphTensorId id;
  GraphType type;
  std::array<std::int64_t, 4> dims, strides;
  bool operator==(const GraphTensor&) const = default;

  bool is_host_value() const { return id >= GraphTensorId::scale && id <= GraphTensorId::minus_infinity; }
  bool is_virtual() const { return id > GraphTensorId::minus_infinity; }
};

enum class GraphOpKind : std::uint8_t {
  matmul,
  multiply,
  subtract,
  add,
  divide,
  exp,
  log,
  row_index,
  column_index,
  greater_equal,
  select,
  row_maximum,
  sum,  // over what y has 1 of, or over the heads that share one of y
  transpose,
  copy,
};

// y = kind(x), kind(x, b), or for select: t ? x : b.
struct GraphOp {
  GraphOpKind kind;
  GraphTensorId x, y;
  std::optional<GraphTensorId> b = {}, t = {};
};

struct AttentionGraph {
  std::vector<GraphTensor> tensors;
  std::vector<GraphOp> ops;
};

// Of packed bf16 qkv; k is given transposed, [batch, kv_heads, head_dim, seq]. None for a window, documents, and rows
// that are not whole pieces of 16 bytes.
std::optional<AttentionGraph> attention_graph(const AttentionShape& shape);

// What the backward takes at a time: whole sequences, or key/value heads of one, with their query heads.
struct AttentionPortion {
  std::int64_t sequences = 0, kv_heads = 0;

  // fp32 in memory beside the operands: dots, one per query and head, and behind them dq_sums.
  std::int64_t dots(const AttentionShape& s) const { return sequences * kv_heads * (s.heads / s.kv_heads) * s.seq; }
  std::int64_t dq_sums(const AttentionShape& s) const { return dots(s) * s.head_dim; }
};

// Those that divide the shape into equal ones whose tensors are whole pieces of 16 bytes, from all of it down.
std::vector<AttentionPortion> attention_portions(const AttentionShape& shape);

// v is given transposed too. REQUIRES: attention_graph has the shape.
AttentionGraph attention_backward_graph(const AttentionShape& shape, const AttentionPortion& portion);

}  // namespace foretrain::kernels::cuda
