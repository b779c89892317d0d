// Attention cut along the sequence: what no part of the result covers.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "kernels/arguments.h"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/simd/ops.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

template <class W>
void set_lowest(W* lse, int64_t n) {
  std::fill_n(lse, n, -std::numeric_limits<W>::infinity());
}

// Rows of [batch][seq] outside [first, first + count) of each sequence, `cols` elements each, `ld` apart.
void clear_rows_outside(int64_t batch, int64_t seq, int64_t first, int64_t count, int64_t cols, int64_t ld, Tensor x) {
  for (int64_t row = 0; row < batch * seq; ++row) {
    if (row % seq < first || row % seq >= first + count) {
      std::memset(static_cast<char*>(x.data) + size_bytes(x.dtype, row * ld), 0,
                  static_cast<std::size_t>(size_bytes(x.dtype, cols)));
    }
  }
}

}  // namespace

void attention_part_forward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                            Tensor o, Tensor lse) {
  arguments::attention_part_forward(s, part, qkv, kv, o, lse);
  const int64_t rows = s.batch * s.heads * s.seq;
  if (lse.dtype == Dtype::fp64) {
    set_lowest(static_cast<double*>(lse.data), rows);
  } else {
    set_lowest(static_cast<float*>(lse.data), rows);
  }
  if (part.queries > 0 && part.keys > 0) {
    table().attention_part_forward(s, part, qkv, kv, o, lse);
  }
}

void attention_part_backward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                             ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv, Tensor dkv, bool add_to_dq) {
  arguments::attention_part_backward(s, part, qkv, kv, o, lse, d_o, dqkv, dkv, add_to_dq);
  clear_rows_outside(s.batch, part.keys_of(s), part.first_key, part.keys, s.kv_cols(), s.kv_cols(), dkv);
  if (!add_to_dq) {
    clear_rows_outside(s.batch, s.seq, part.first_query, part.queries, s.q_cols(), s.qkv_cols(), dqkv);
  }
  table().attention_part_backward(s, part, qkv, kv, o, lse, d_o, dqkv, dkv, add_to_dq);
}

void attention_rows_forward(const AttentionShape& s, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                            ConstTensor bias, Tensor o, Tensor lse) {
  arguments::attention_rows_forward(s, rows, q, kv, bias, o, lse);
  table().attention_rows_forward(s, rows, q, kv, bias, o, lse);
}

void attention_rows_backward(const AttentionShape& s, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                             ConstTensor bias, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dq, Tensor dkv,
                             Tensor d_bias) {
  arguments::attention_rows_backward(s, rows, q, kv, bias, o, lse, d_o, dq, dkv, d_bias);
  table().attention_rows_backward(s, rows, q, kv, bias, o, lse, d_o, dq, dkv, d_bias);
}

void attention_merge(const AttentionShape& s, int64_t parts, ConstTensor o_parts, ConstTensor lse_parts, Tensor o,
                     Tensor lse) {
  arguments::attention_merge(s, parts, o_parts, lse_parts, o, lse);
  table().attention_merge(s, parts, o_parts, lse_parts, o, lse);
}

void attention_sinks_forward(const AttentionShape& s, ConstTensor sinks, Tensor o, Tensor lse) {
  arguments::attention_sinks_forward(s, sinks, o, lse);
  table().attention_sinks_forward(s, sinks, o, lse);
}

void attention_sinks_backward(const AttentionShape& s, ConstTensor sinks, ConstTensor o, ConstTensor lse,
                              ConstTensor d_o, Tensor d_sinks) {
  arguments::attention_sinks_backward(s, sinks, o, lse, d_o, d_sinks);
  table().attention_sinks_backward(s, sinks, o, lse, d_o, d_sinks);
}

void copy_matrix(int64_t rows, int64_t cols, ConstTensor src, int64_t ld_src, Tensor dst, int64_t ld_dst) {
  arguments::copy_matrix(rows, cols, src, ld_src, dst, ld_dst);
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<char*>(dst.data) + size_bytes(dst.dtype, row * ld_dst),
                static_cast<const char*>(src.data) + size_bytes(src.dtype, row * ld_src),
                static_cast<std::size_t>(size_bytes(src.dtype, cols)));
  }
}

}  // namespace foretrain::kernels
