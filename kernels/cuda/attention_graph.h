// The forward of attention as cuDNN is asked for it: scores, scale, causal mask, softmax and context as operations on
// tensors that exist in registers only, which its flash attention engines recognise (cuDNN documentation, "Fused Flash
// Attention fprop"). The backward is not asked of it: without a workspace of seq x seq its sums have no fixed order.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

// Those with memory (scale and minus_infinity: a float of the host's), then those without.
enum class GraphTensorId : std::int64_t {
  q = 1,
  k,
  v,
  o,
  lse,
  scale,
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
};

enum class GraphType : std::uint8_t { bf16, fp32, i32, boolean };

// [batch, heads, rows, columns].
struct GraphTensor {
  GraphTensorId id;
  GraphType type;
  std::array<std::int64_t, 4> dims, strides;
  bool operator==(const GraphTensor&) const = default;

  bool is_host_value() const { return id == GraphTensorId::scale || id == GraphTensorId::minus_infinity; }
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
  row_sum,
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

}  // namespace foretrain::kernels::cuda
