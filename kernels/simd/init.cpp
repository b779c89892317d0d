#include "kernels/philox.h"
#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

template <class T>
FORETRAIN_INLINE void put(T* p, double x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    store_partial(p, broadcast(static_cast<float>(x)), 1);
  } else {
    *p = static_cast<T>(x);
  }
}

// Calls draw(counter, pair) for the pairs of elements that a row touches and stores the halves that lie in it.
template <class T, class F>
void fill_rows(const InitShape& s, T* x, F draw) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t first = (s.row_offset + r) * s.global_cols + s.col_offset;
    T* row = x + r * s.cols;
    int64_t c = 0;
    while (c < s.cols) {
      const int64_t element = first + c;
      const UniformPair pair = draw(static_cast<std::uint64_t>(element) / 2);
      if (element % 2 == 1) {
        put(row + c, pair.second);
        c += 1;
        continue;
      }
      put(row + c, pair.first);
      if (c + 1 < s.cols) {
        put(row + c + 1, pair.second);
      }
      c += 2;
    }
  }
}

}  // namespace

void init_normal(const InitShape& s, double standard_deviation, Tensor x) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    fill_rows(s, as<T>(x), [&](std::uint64_t counter) {
      const UniformPair u = philox_uniform(s.seed, counter, s.tensor);
      const double radius = standard_deviation * ::sqrt(-2.0 * ::log(1.0 - u.first));
      const double angle = 2.0 * 3.14159265358979323846 * u.second;
      return UniformPair{radius * ::cos(angle), radius * ::sin(angle)};
    });
  });
}

void init_uniform(const InitShape& s, double low, double high, Tensor x) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    fill_rows(s, as<T>(x), [&](std::uint64_t counter) {
      const UniformPair u = philox_uniform(s.seed, counter, s.tensor);
      return UniformPair{low + (high - low) * u.first, low + (high - low) * u.second};
    });
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
