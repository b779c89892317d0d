// Attention over parts of the keys, put together: a part's rows weigh as much as their sums of exponentials.
#include "kernels/scratch.h"
#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

template <class T>
void merge(const AttentionShape& s, int64_t parts, const T* o_parts, const Wide<T>* lse_parts, T* o, Wide<T>* lse) {
  using W = Wide<T>;
  const W lowest = -static_cast<W>(__builtin_inf());
  const int64_t rows = s.batch * s.heads * s.seq;
  const int64_t elements = s.tokens() * s.out_cols();
  W* const memory = static_cast<W*>(scratch(Scratch::op, static_cast<std::size_t>(parts + s.v_dim()) * sizeof(W)));
  W* const weights = memory;
  W* const sum = memory + parts;
  for (int64_t row = 0; row < rows; ++row) {
    W maximum = lowest;
    for (int64_t p = 0; p < parts; ++p) {
      const W x = lse_parts[p * rows + row];
      maximum = x > maximum ? x : maximum;
    }
    W total = 0;
    for (int64_t p = 0; p < parts; ++p) {
      weights[p] = lse_parts[p * rows + row] == lowest ? W{0} : std::exp(lse_parts[p * rows + row] - maximum);
      total += weights[p];
    }
    lse[row] = total == 0 ? lowest : maximum + std::log(total);
    const int64_t head = row / s.seq % s.heads;
    const int64_t token = row / (s.heads * s.seq) * s.seq + row % s.seq;
    const int64_t at = token * s.out_cols() + head * s.v_dim();
    __builtin_memset(sum, 0, static_cast<std::size_t>(s.v_dim()) * sizeof(W));
    for (int64_t p = 0; p < parts; ++p) {
      if (weights[p] == 0) {
        continue;  // such rows may never have been written
      }
      const T* part = o_parts + p * elements + at;
      const W weight = weights[p] / total;
      for_vectors<W>(s.v_dim(), [&](int64_t i, auto access) {
        access.store(sum + i, access.load(sum + i) + weight * access.load(part + i));
      });
    }
    for_vectors<W>(s.v_dim(), [&](int64_t i, auto access) { access.store(o + at + i, access.load(sum + i)); });
  }
}

}  // namespace

void attention_merge(const AttentionShape& s, std::int64_t parts, ConstTensor o_parts, ConstTensor lse_parts, Tensor o,
                     Tensor lse) {
  with_type(o.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    merge<T>(s, parts, as<T>(o_parts), as<Wide<T>>(lse_parts), as<T>(o), as<Wide<T>>(lse));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
