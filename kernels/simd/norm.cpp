#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

template <class T, class P>
void forward(const NormShape& s, const T* x, const P* gain, const P* bias, T* y, Wide<T>* mean, Wide<T>* rstd) {
  using W = Wide<T>;
  const bool centred = s.kind == NormKind::layernorm;
  const W cols = static_cast<W>(s.cols);
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* in = x + r * s.cols;
    T* out = y + r * s.cols;
    W mu = 0;
    if (centred) {
      mu = sum_vectors<W>(s.cols, [&](int64_t i, auto access) { return access.load(in + i); }) / cols;
      mean[r] = mu;
    }
    const W squares = sum_vectors<W>(s.cols, [&](int64_t i, auto access) {
      const Vec<W> d = access.only(access.load(in + i) - mu);
      return d * d;
    });
    const W inverse = W{1} / std::sqrt(squares / cols + static_cast<W>(s.epsilon));
    rstd[r] = inverse;
    if (bias != nullptr) {
      for_vectors<W>(s.cols, [&](int64_t i, auto access) {
        access.store(out + i, (access.load(in + i) - mu) * inverse * access.load(gain + i) + access.load(bias + i));
      });
    } else {
      for_vectors<W>(s.cols, [&](int64_t i, auto access) {
        access.store(out + i, (access.load(in + i) - mu) * inverse * access.load(gain + i));
      });
    }
  }
}

// dx = rstd (g - mean(g) - n mean(g n)) with n = (x - mean) rstd, g = dy gain; rmsnorm has no mean(g).
template <class T, class P>
void backward_input(const NormShape& s, const T* x, const P* gain, const T* dy, const Wide<T>* mean,
                    const Wide<T>* rstd, const T* base, T* dx) {
  using W = Wide<T>;
  const bool centred = s.kind == NormKind::layernorm;
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* in = x + r * s.cols;
    const T* d = dy + r * s.cols;
    T* out = dx + r * s.cols;
    const W mu = centred ? mean[r] : W{0};
    const W inverse = rstd[r];
    W sum_g = 0;
    if (centred) {
      sum_g =
          sum_vectors<W>(s.cols, [&](int64_t i, auto access) { return access.load(d + i) * access.load(gain + i); });
    }
    const W sum_gn = inverse * sum_vectors<W>(s.cols, [&](int64_t i, auto access) {
                       return access.load(d + i) * access.load(gain + i) * (access.load(in + i) - mu);
                     });
    // dx = a g - b (x - mu) - c
    const W b = inverse * inverse * sum_gn / static_cast<W>(s.cols);
    const W c = inverse * sum_g / static_cast<W>(s.cols);
    const auto value = [&](int64_t i, auto access) {
      const Vec<W> g = access.load(d + i) * access.load(gain + i);
      return inverse * g - b * (access.load(in + i) - mu) - c;
    };
    if (base != nullptr) {
      const T* old = base + r * s.cols;
      for_vectors<W>(s.cols,
                     [&](int64_t i, auto access) { access.store(out + i, access.load(old + i) + value(i, access)); });
    } else {
      for_vectors<W>(s.cols, [&](int64_t i, auto access) { access.store(out + i, value(i, access)); });
    }
  }
}

// Rows are taken four at a time: the sums stay in the first-level cache, and are loaded and stored a quarter as often.
template <class T>
void backward_weight(const NormShape& s, const T* x, const T* dy, const Wide<T>* mean, const Wide<T>* rstd,
                     Wide<T>* dgain, Wide<T>* dbias) {
  using W = Wide<T>;
  const bool centred = s.kind == NormKind::layernorm;
  for (int64_t r = 0; r < s.rows; r += 4) {
    const int64_t rows = s.rows - r < 4 ? s.rows - r : 4;
    const T* in[4];
    const T* d[4];
    W mu[4];
    W inverse[4];
    for (int64_t i = 0; i < 4; ++i) {
      // Missing rows repeat the last one with factor 0.
      const int64_t row = r + (i < rows ? i : rows - 1);
      in[i] = x + row * s.cols;
      d[i] = dy + row * s.cols;
      mu[i] = centred ? mean[row] : W{0};
      inverse[i] = i < rows ? rstd[row] : W{0};
    }
    for_vectors<W>(s.cols, [&](int64_t c, auto access) {
      Vec<W> sum = access.load(d[0] + c) * (access.load(in[0] + c) - mu[0]) * inverse[0];
      for (int i = 1; i < 4; ++i) {
        sum += access.load(d[i] + c) * (access.load(in[i] + c) - mu[i]) * inverse[i];
      }
      access.store(dgain + c, access.load(dgain + c) + sum);
      if (dbias != nullptr) {
        Vec<W> column = access.load(d[0] + c);
        for (int i = 1; i < 4; ++i) {
          column += i < rows ? access.load(d[i] + c) : Vec<W>{};
        }
        access.store(dbias + c, access.load(dbias + c) + column);
      }
    });
  }
}

}  // namespace

void norm_forward(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y, Tensor mean,
                  Tensor rstd) {
  with_types(x.dtype, gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    forward<T, P>(s, as<T>(x), as<P>(gain), as<P>(bias), as<T>(y), as<Wide<T>>(mean), as<Wide<T>>(rstd));
  });
}

void norm_backward_input(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor dy, ConstTensor mean,
                         ConstTensor rstd, ConstTensor base, Tensor dx) {
  with_types(x.dtype, gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    backward_input<T, P>(s, as<T>(x), as<P>(gain), as<T>(dy), as<Wide<T>>(mean), as<Wide<T>>(rstd), as<T>(base),
                         as<T>(dx));
  });
}

void norm_backward_weight(const NormShape& s, ConstTensor x, ConstTensor dy, ConstTensor mean, ConstTensor rstd,
                          Tensor dgain, Tensor dbias, bool accumulate) {
  if (!accumulate) {
    FORETRAIN_ISA::fill(dgain, s.cols, 0.0);
    if (dbias) {
      FORETRAIN_ISA::fill(dbias, s.cols, 0.0);
    }
  }
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    backward_weight<T>(s, as<T>(x), as<T>(dy), as<Wide<T>>(mean), as<Wide<T>>(rstd), as<Wide<T>>(dgain),
                       as<Wide<T>>(dbias));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
