// A warp for each row, which is read again from the cache; of the backward's sums over rows, column_sums.h.
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// The warp's row, if there is one.
__device__ int64_t row_of_warp() {
  return int64_t{blockIdx.x} * kWarps + warp();
}

// f(col) for each pack of the warp's row.
template <int kPack, class F>
__device__ void each_column(int64_t cols, F f) {
  for (int64_t c = int64_t{lane()} * kPack; c < cols; c += kWarp * kPack) {
    f(c);
  }
}

template <int kPack, class T, class P>
__global__ void __launch_bounds__(kThreads)
    forward(bool centred, int64_t rows, int64_t cols, Wide<T> epsilon, const T* x, const P* gain, const P* bias, T* y,
            Wide<T>* mean, Wide<T>* rstd) {
  using W = Wide<T>;
  const int64_t row = row_of_warp();
  if (row >= rows) {
    return;
  }
  const T* const in = x + row * cols;
  W mu = 0, squares = 0;
  if (centred) {
    each_column<kPack>(cols, [&](int64_t c) {
      const auto values = read<kPack>(in + c);
      FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
        mu += values.of[k];
      }
    });
    mu = over_warp(Sum{}, mu) / static_cast<W>(cols);
  }
  each_column<kPack>(cols, [&](int64_t c) {
    const auto values = read<kPack>(in + c);
    FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
      const W d = values.of[k] - mu;
      squares += d * d;
    }
  });
  const W inverse = W{1} / std::sqrt(over_warp(Sum{}, squares) / static_cast<W>(cols) + epsilon);
  each_column<kPack>(cols, [&](int64_t c) {
    const auto values = read<kPack>(in + c);
    const auto factors = read<kPack>(gain + c);
    Values<Wide<P>, kPack> added;
    if (bias != nullptr) {
      added = read<kPack>(bias + c);
    }
    write(y + row * cols + c, each_of_pack<kPack>([&](int k) {
            return (values.of[k] - mu) * inverse * static_cast<W>(factors.of[k]) + static_cast<W>(added.of[k]);
          }));
  });
  if (lane() == 0) {
    rstd[row] = inverse;
    if (centred) {
      mean[row] = mu;
    }
  }
}

// dx = rstd (g - mean(g) - n mean(g n)) with n = (x - mean) rstd, g = dy gain; rmsnorm has no mean(g).
template <int kPack, class T, class P>
__global__ void __launch_bounds__(kThreads)
    backward_input(bool centred, int64_t rows, int64_t cols, const T* x, const P* gain, const T* dy,
                   const Wide<T>* mean, const Wide<T>* rstd, const T* base, T* dx) {
  using W = Wide<T>;
  const int64_t row = row_of_warp(), at = row * cols;
  if (row >= rows) {
    return;
  }
  const W mu = centred ? mean[row] : W{0};
  const W inverse = rstd[row];
  const auto g_and_n = [=](int64_t c) {
    const auto values = read<kPack>(x + at + c), d = read<kPack>(dy + at + c);
    const auto factors = read<kPack>(gain + c);
    return each_of_pack<kPack>([&](int k) {
      return Sums<W, 2>{{d.of[k] * static_cast<W>(factors.of[k]), (values.of[k] - mu) * inverse}};
    });
  };
  W mean_g = 0, mean_gn = 0;
  each_column<kPack>(cols, [&](int64_t c) {
    const auto both = g_and_n(c);
    FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
      mean_g += both.of[k].of[0];
      mean_gn += both.of[k].of[0] * both.of[k].of[1];
    }
  });
  mean_g = centred ? over_warp(Sum{}, mean_g) / static_cast<W>(cols) : W{0};
  mean_gn = over_warp(Sum{}, mean_gn) / static_cast<W>(cols);
  each_column<kPack>(cols, [&](int64_t c) {
    const auto both = g_and_n(c);
    Values<W, kPack> added;
    if (base != nullptr) {
      added = read<kPack>(base + at + c);
    }
    write(dx + at + c, each_of_pack<kPack>([&](int k) {
            return added.of[k] + inverse * (both.of[k].of[0] - mean_g - both.of[k].of[1] * mean_gn);
          }));
  });
}

template <int kPack, class T>
struct GainAndBias {
  const T* x;
  const T* dy;
  const Wide<T>* mean;  // null for rmsnorm
  const Wide<T>* rstd;
  int64_t cols;

  __device__ auto operator()(int64_t row, int64_t col) const {
    const auto d = read<kPack>(dy + row * cols + col), values = read<kPack>(x + row * cols + col);
    const Wide<T> mu = mean == nullptr ? Wide<T>{0} : mean[row], inverse = rstd[row];
    return each_of_pack<kPack>([&](int k) {
      return Sums<Wide<T>, 2>{{d.of[k] * (values.of[k] - mu) * inverse, d.of[k]}};
    });
  }
};

}  // namespace

void norm_forward(const Stream& stream, const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y,
                  Tensor mean, Tensor rstd) {
  arguments::norm_forward(s, x, gain, bias, y, mean, rstd);
  with_types(x.dtype, gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    with_pack<T>(s.cols, {x.data, gain.data, bias.data, y.data}, [&](auto pack) {
      launch(forward<decltype(pack)::value, T, P>, {blocks_of(s.rows, kWarps)}, {kThreads}, stream,
             s.kind == NormKind::layernorm, s.rows, s.cols, static_cast<Wide<T>>(s.epsilon), as<T>(x), as<P>(gain),
             as<P>(bias), as<T>(y), as<Wide<T>>(mean), as<Wide<T>>(rstd));
    });
  });
}

void norm_backward_input(const Stream& stream, const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor dy,
                         ConstTensor mean, ConstTensor rstd, ConstTensor base, Tensor dx) {
  arguments::norm_backward_input(s, x, gain, dy, mean, rstd, base, dx);
  with_types(x.dtype, gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    with_pack<T>(s.cols, {x.data, gain.data, dy.data, base.data, dx.data}, [&](auto pack) {
      launch(backward_input<decltype(pack)::value, T, P>, {blocks_of(s.rows, kWarps)}, {kThreads}, stream,
             s.kind == NormKind::layernorm, s.rows, s.cols, as<T>(x), as<P>(gain), as<T>(dy), as<Wide<T>>(mean),
             as<Wide<T>>(rstd), as<T>(base), as<T>(dx));
    });
  });
}

void norm_backward_weight(const Stream& stream, const NormShape& s, ConstTensor x, ConstTensor dy, ConstTensor mean,
                          ConstTensor rstd, Tensor dgain, Tensor dbias, bool accumulate) {
  arguments::norm_backward_weight(s, x, dy, mean, rstd, dgain, dbias, accumulate);
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    const W* const means = s.kind == NormKind::layernorm ? as<W>(mean) : nullptr;
    with_pack<T>(s.cols, {x.data, dy.data}, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      sum_columns<kPack, W, 2>(stream, s.rows, s.cols,
                               GainAndBias<kPack, T>{as<T>(x), as<T>(dy), means, as<W>(rstd), s.cols},
                               {{as<W>(dgain), as<W>(dbias)}}, accumulate);
    });
  });
}

}  // namespace foretrain::kernels::cuda
