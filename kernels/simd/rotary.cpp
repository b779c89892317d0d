#include "kernels/scratch.h"
#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// direction is 1 (forward) or -1 (backward: the rotation's inverse is its transpose).
template <class T>
void rotate(const AttentionShape& s, int64_t rotary_dim, const RotaryFrequencies& frequencies, int64_t position_offset,
            Wide<T> direction, T* qkv) {
  using W = Wide<T>;
  const int64_t half = rotary_dim / 2;
  const RotaryTable<W> table = rotary_table<W>(s.seq, rotary_dim, frequencies, position_offset);
  for (int64_t t = 0; t < s.tokens(); ++t) {
    const W* cos = table.cos + t % s.seq * half;
    const W* sin = table.sin + t % s.seq * half;
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      T* low = qkv + t * s.qkv_cols() + h * s.head_dim;
      T* high = low + half;
      for_vectors<W>(half, [&](int64_t i, auto access) {
        const Vec<W> a = access.load(low + i);
        const Vec<W> b = access.load(high + i);
        const Vec<W> c = access.load(cos + i);
        const Vec<W> n = direction * access.load(sin + i);
        access.store(low + i, a * c - b * n);
        access.store(high + i, b * c + a * n);
      });
    }
  }
}

}  // namespace

void rotary_forward(const AttentionShape& s, int64_t rotary_dim, const RotaryFrequencies& frequencies,
                    int64_t position_offset, Tensor qkv) {
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    rotate<T>(s, rotary_dim, frequencies, position_offset, 1, as<T>(qkv));
  });
}

void rotary_backward(const AttentionShape& s, int64_t rotary_dim, const RotaryFrequencies& frequencies,
                     int64_t position_offset, Tensor dqkv) {
  with_type(dqkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    rotate<T>(s, rotary_dim, frequencies, position_offset, -1, as<T>(dqkv));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
