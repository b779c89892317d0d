// A block for each row; of the backward's sums over rows, column_sums.h. The row is read again from the cache.
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// The sum over the row of f(col), in all threads.
template <class W, class F>
__device__ W row_sum(int64_t cols, F f) {
  W sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    sum += f(c);
  }
  return over_block(Sum{}, sum);
}

template <class T, class P>
__global__ void __launch_bounds__(kThreads) forward(bool centred, int64_t cols, Wide<T> epsilon, const T* x,
                                                    const P* gain, const P* bias, T* y, Wide<T>* mean, Wide<T>* rstd) {
  using W = Wide<T>;
  const int64_t row = blockIdx.x;
  const T* const in = x + row * cols;
  const W mu = centred ? row_sum<W>(cols, [=](int64_t c) { return widen(in[c]); }) / static_cast<W>(cols) : W{0};
  const W squares = row_sum<W>(cols, [=](int64_t c) {
    const W d = widen(in[c]) - mu;
    return d * d;
  });
  const W inverse = W{1} / std::sqrt(squares / static_cast<W>(cols) + epsilon);
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const W n = (widen(in[c]) - mu) * inverse * static_cast<W>(widen(gain[c]));
    y[row * cols + c] = narrow<T>(bias == nullptr ? n : n + static_cast<W>(widen(bias[c])));
  }
  if (threadIdx.x == 0) {
    rstd[row] = inverse;
    if (centred) {
      mean[row] = mu;
    }
  }
}

// dx = rstd (g - mean(g) - n mean(g n)) with n = (x - mean) rstd, g = dy gain; rmsnorm has no mean(g).
template <class T, class P>
__global__ void __launch_bounds__(kThreads)
    backward_input(bool centred, int64_t cols, const T* x, const P* gain, const T* dy, const Wide<T>* mean,
                   const Wide<T>* rstd, const T* base, T* dx) {
  using W = Wide<T>;
  const int64_t row = blockIdx.x, at = row * cols;
  const W mu = centred ? mean[row] : W{0};
  const W inverse = rstd[row];
  const auto g = [=](int64_t c) { return widen(dy[at + c]) * static_cast<W>(widen(gain[c])); };
  const auto n = [=](int64_t c) { return (widen(x[at + c]) - mu) * inverse; };
  const W mean_g = centred ? row_sum<W>(cols, g) / static_cast<W>(cols) : W{0};
  const W mean_gn = row_sum<W>(cols, [=](int64_t c) { return g(c) * n(c); }) / static_cast<W>(cols);
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const W value = inverse * (g(c) - mean_g - n(c) * mean_gn);
    dx[at + c] = narrow<T>(base == nullptr ? value : widen(base[at + c]) + value);
  }
}

template <class T>
struct GainAndBias {
  const T* x;
  const T* dy;
  const Wide<T>* mean;  // null for rmsnorm
  const Wide<T>* rstd;
  int64_t cols;

  __device__ Sums<Wide<T>, 2> operator()(int64_t row, int64_t col) const {
    const Wide<T> d = widen(dy[row * cols + col]);
    const Wide<T> mu = mean == nullptr ? Wide<T>{0} : mean[row];
    return {{d * (widen(x[row * cols + col]) - mu) * rstd[row], d}};
  }
};

}  // namespace

void norm_forward(const Stream& stream, const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y,
                  Tensor mean, Tensor rstd) {
  arguments::norm_forward(s, x, gain, bias, y, mean, rstd);
  with_types(x.dtype, gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    launch(forward<T, P>, {static_cast<unsigned>(s.rows)}, {kThreads}, stream, s.kind == NormKind::layernorm, s.cols,
           static_cast<Wide<T>>(s.epsilon), as<T>(x), as<P>(gain), as<P>(bias), as<T>(y), as<Wide<T>>(mean),
           as<Wide<T>>(rstd));
  });
}

void norm_backward_input(const Stream& stream, const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor dy,
                         ConstTensor mean, ConstTensor rstd, ConstTensor base, Tensor dx) {
  arguments::norm_backward_input(s, x, gain, dy, mean, rstd, base, dx);
  with_types(x.dtype, gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    launch(backward_input<T, P>, {static_cast<unsigned>(s.rows)}, {kThreads}, stream, s.kind == NormKind::layernorm,
           s.cols, as<T>(x), as<P>(gain), as<T>(dy), as<Wide<T>>(mean), as<Wide<T>>(rstd), as<T>(base), as<T>(dx));
  });
}

void norm_backward_weight(const Stream& stream, const NormShape& s, ConstTensor x, ConstTensor dy, ConstTensor mean,
                          ConstTensor rstd, Tensor dgain, Tensor dbias, bool accumulate) {
  arguments::norm_backward_weight(s, x, dy, mean, rstd, dgain, dbias, accumulate);
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    const W* const means = s.kind == NormKind::layernorm ? as<W>(mean) : nullptr;
    sum_columns<W, 2>(stream, s.rows, s.cols, GainAndBias<T>{as<T>(x), as<T>(dy), means, as<W>(rstd), s.cols},
                      {{as<W>(dgain), as<W>(dbias)}}, accumulate);
  });
}

}  // namespace foretrain::kernels::cuda
