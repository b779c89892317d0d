// Attention cut along the sequence: checks of its launchers, and what no part of the result covers.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/simd/ops.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

void check_part(const char* op, const AttentionShape& s, const AttentionPart& p) {
  const auto inside = [&](int64_t first, int64_t count) { return first >= 0 && count >= 0 && first + count <= s.seq; };
  CHECK(inside(p.first_query, p.queries) && inside(p.first_key, p.keys), "{}: queries {} + {}, keys {} + {} of {}", op,
        p.first_query, p.queries, p.first_key, p.keys, s.seq);
  CHECK(!p.causal || p.queries == p.keys, "{}: {} queries and {} keys under a causal mask; they must be as many", op,
        p.queries, p.keys);
}

void check_types(const char* op, Dtype element, std::initializer_list<Dtype> same, Dtype statistic) {
  for (const Dtype d : same) {
    CHECK(d == element, "{}: operands of types {} and {}; they share one", op, name(element), name(d));
  }
  CHECK(statistic == wide(element), "{}: operand of type {}; with {} elements it is {}", op, name(statistic),
        name(element), name(wide(element)));
}

template <class W>
void set_lowest(W* lse, int64_t n) {
  std::fill_n(lse, n, -std::numeric_limits<W>::infinity());
}

// Rows of [batch][seq] outside [first, first + count) of each sequence, `cols` elements each, `ld` apart.
void clear_rows_outside(const AttentionShape& s, int64_t first, int64_t count, int64_t cols, int64_t ld, Tensor x) {
  for (int64_t row = 0; row < s.tokens(); ++row) {
    if (row % s.seq < first || row % s.seq >= first + count) {
      std::memset(static_cast<char*>(x.data) + size_bytes(x.dtype, row * ld), 0,
                  static_cast<std::size_t>(size_bytes(x.dtype, cols)));
    }
  }
}

}  // namespace

void attention_part_forward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                            Tensor o, Tensor lse) {
  check_attention("attention_part_forward", s, qkv.dtype, {});
  check_types("attention_part_forward", qkv.dtype, {kv.dtype, o.dtype}, lse.dtype);
  check_part("attention_part_forward", s, part);
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
  check_attention("attention_part_backward", s, qkv.dtype, {});
  check_types("attention_part_backward", qkv.dtype, {kv.dtype, o.dtype, d_o.dtype, dqkv.dtype, dkv.dtype}, lse.dtype);
  check_part("attention_part_backward", s, part);
  clear_rows_outside(s, part.first_key, part.keys, s.kv_cols(), s.kv_cols(), dkv);
  if (!add_to_dq) {
    clear_rows_outside(s, part.first_query, part.queries, s.out_cols(), s.qkv_cols(), dqkv);
  }
  table().attention_part_backward(s, part, qkv, kv, o, lse, d_o, dqkv, dkv, add_to_dq);
}

void attention_merge(const AttentionShape& s, int64_t parts, ConstTensor o_parts, ConstTensor lse_parts, Tensor o,
                     Tensor lse) {
  check_attention("attention_merge", s, o.dtype, {});
  check_types("attention_merge", o.dtype, {o_parts.dtype}, lse.dtype);
  check_types("attention_merge", o.dtype, {}, lse_parts.dtype);
  check_sizes("attention_merge", {parts});
  table().attention_merge(s, parts, o_parts, lse_parts, o, lse);
}

void copy_matrix(int64_t rows, int64_t cols, ConstTensor src, int64_t ld_src, Tensor dst, int64_t ld_dst) {
  CHECK(src.dtype == dst.dtype, "copy_matrix: {} to {}; they share one type", name(src.dtype), name(dst.dtype));
  check_sizes("copy_matrix", {rows, cols});
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<char*>(dst.data) + size_bytes(dst.dtype, row * ld_dst),
                static_cast<const char*>(src.data) + size_bytes(src.dtype, row * ld_src),
                static_cast<std::size_t>(size_bytes(src.dtype, cols)));
  }
}

}  // namespace foretrain::kernels
