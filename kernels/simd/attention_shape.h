// Where heads stand in a packed row, and the scale of the scores.
#pragma once

#include <cmath>

#include "kernels/kernels.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

FORETRAIN_INLINE double softmax_scale(const AttentionShape& s) {
  return s.scale != 0.0 ? s.scale : 1.0 / ::sqrt(static_cast<double>(s.head_dim));
}

FORETRAIN_INLINE int64_t key_column(const AttentionShape& s, int64_t kv_head) {
  return (s.heads + kv_head) * s.head_dim;
}
FORETRAIN_INLINE int64_t value_column(const AttentionShape& s, int64_t kv_head) {
  return (s.heads + s.kv_heads) * s.head_dim + kv_head * s.v_dim();
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
