#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// Vectors of `To`'s arithmetic type from any stored type; only fp64 and the fp32 family need a conversion.
template <class To, class From>
void cast_range(int64_t n, const From* src, To* dst) {
  if constexpr (std::is_same_v<Wide<To>, Wide<From>>) {
    for_vectors<Wide<To>>(n, [&](int64_t i, auto access) { access.store(dst + i, access.load(src + i)); });
  } else {
    for (int64_t i = 0; i < n; ++i) {
      const auto x = static_cast<Wide<To>>(widen(src[i]));
      if constexpr (sizeof(To) == 2) {
        store_partial(dst + i, broadcast(x), 1);
      } else {
        dst[i] = x;
      }
    }
  }
}

template <class From, class To>
void add_range(int64_t n, const From* src, To* dst) {
  for_vectors<Wide<To>>(
      n, [&](int64_t i, auto access) { access.store(dst + i, access.load(dst + i) + access.load(src + i)); });
}

// Four vectors at a time, so that walking the lists costs little beside the additions.
template <class T>
void sum_range(std::span<const ConstTensor> sources, T* dst, std::span<const Tensor> copies, int64_t n) {
  using W = Wide<T>;
  constexpr int64_t step = 4 * kLanes<T>;
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    Vec<W> sum[4];
    for (int v = 0; v < 4; ++v) {
      sum[v] = load(as<T>(sources[0]) + i + v * kLanes<T>);
    }
    for (std::size_t s = 1; s < sources.size(); ++s) {
      const T* source = as<T>(sources[s]) + i;
      for (int v = 0; v < 4; ++v) {
        sum[v] += load(source + v * kLanes<T>);
      }
    }
    for (int v = 0; v < 4; ++v) {
      store(dst + i + v * kLanes<T>, sum[v]);
    }
    for (const Tensor& copy : copies) {
      for (int v = 0; v < 4; ++v) {
        store(as<T>(copy) + i + v * kLanes<T>, sum[v]);
      }
    }
  }
  for_vectors<W>(n - i, [&](int64_t j, auto access) {
    Vec<W> sum = access.load(as<T>(sources[0]) + i + j);
    for (std::size_t s = 1; s < sources.size(); ++s) {
      sum += access.load(as<T>(sources[s]) + i + j);
    }
    access.store(dst + i + j, sum);
    for (const Tensor& copy : copies) {
      access.store(as<T>(copy) + i + j, sum);
    }
  });
}

template <class T>
void add_rows(int64_t rows, int64_t cols, const T* dy, Wide<T>* db) {
  using W = Wide<T>;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* d = dy + r * cols;
    for_vectors<W>(cols, [&](int64_t c, auto access) {
      const Vec<W> sum = (access.load(d + c) + access.load(d + cols + c)) +
                         (access.load(d + 2 * cols + c) + access.load(d + 3 * cols + c));
      access.store(db + c, access.load(db + c) + sum);
    });
  }
  for (; r < rows; ++r) {
    add_range(cols, dy + r * cols, db);
  }
}

template <class T, class P>
void residual_rows(int64_t rows, int64_t cols, const T* a, const T* b, const P* bias, T* y) {
  using W = Wide<T>;
  if (bias == nullptr) {
    for_vectors<W>(rows * cols,
                   [&](int64_t i, auto access) { access.store(y + i, access.load(a + i) + access.load(b + i)); });
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = r * cols;
    for_vectors<W>(cols, [&](int64_t i, auto access) {
      access.store(y + row + i, access.load(a + row + i) + access.load(b + row + i) + access.load(bias + i));
    });
  }
}

}  // namespace

void residual_add(int64_t rows, int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor y) {
  with_types(a.dtype, bias ? bias.dtype : a.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    residual_rows<T, P>(rows, cols, as<T>(a), as<T>(b), as<P>(bias), as<T>(y));
  });
}

void bias_gradient(int64_t rows, int64_t cols, ConstTensor dy, Tensor db, bool accumulate) {
  if (!accumulate) {
    FORETRAIN_ISA::fill(db, cols, 0.0);
  }
  with_type(dy.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    add_rows<T>(rows, cols, as<T>(dy), as<Wide<T>>(db));
  });
}

void fill(Tensor x, int64_t n, double value) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Vec<Wide<T>> v = broadcast(static_cast<Wide<T>>(value));
    for_vectors<Wide<T>>(n, [&](int64_t i, auto access) { access.store(as<T>(x) + i, v); });
  });
}

void cast(ConstTensor src, Tensor dst, int64_t n) {
  with_type(src.dtype, [&](auto from) {
    using From = typename decltype(from)::type;
    with_type(dst.dtype, [&](auto to) {
      using To = typename decltype(to)::type;
      cast_range<To, From>(n, as<From>(src), as<To>(dst));
    });
  });
}

void add(ConstTensor src, Tensor dst, int64_t n) {
  // Types as with_types pairs them: the narrower is the source.
  with_types(src.dtype, dst.dtype, [&](auto from, auto to) {
    using From = typename decltype(from)::type;
    using To = typename decltype(to)::type;
    add_range<From, To>(n, as<From>(src), as<To>(dst));
  });
}

void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, int64_t n) {
  with_type(dst.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    sum_range<T>(sources, as<T>(dst), copies, n);
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
