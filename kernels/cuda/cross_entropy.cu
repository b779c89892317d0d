// A block for each row. The statistics are taken in one pass, each thread with a maximum of its own so far (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018); probabilities are computed again for the gradient.
#include <cmath>
#include <limits>

#include "kernels/arguments.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

using std::int32_t;

namespace {

template <class W>
constexpr W kLowest = -std::numeric_limits<W>::infinity();

// exp(x - maximum), which is 0 where both are -inf.
template <class W>
__device__ W exp_below(W x, W maximum) {
  return x == kLowest<W> ? W{0} : std::exp(x - maximum);
}

template <int kPack, class T>
__global__ void __launch_bounds__(kThreads)
    row_stats(CrossEntropyShape s, const T* logits, const int32_t* targets, Wide<T>* stats) {
  using W = Wide<T>;
  const int64_t row = blockIdx.x;
  const T* const x = logits + row * s.cols;
  W maximum = kLowest<W>, sum = 0;
  for (int64_t c = int64_t{threadIdx.x} * kPack; c < s.valid; c += kThreads * kPack) {
    auto values = read<kPack>(x + c);
    W most = maximum;
    FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
      W& value = values.of[k];
      value = c + k < s.valid ? value : kLowest<W>;
      most = value > most ? value : most;
    }
    if (most > maximum) {
      sum *= exp_below(maximum, most);
      maximum = most;
    }
    FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
      sum += exp_below(values.of[k], maximum);
    }
  }
  const W greatest = over_block(Greatest{}, maximum);
  const W total = over_block(Sum{}, sum == W{0} ? sum : sum * exp_below(maximum, greatest));
  if (threadIdx.x == 0) {
    const int64_t target = targets[row] - s.vocab_start;
    stats[3 * row] = greatest;
    stats[3 * row + 1] = total;
    stats[3 * row + 2] = targets[row] < 0                  ? -kLowest<W>
                         : target >= 0 && target < s.valid ? widen(x[target])
                                                           : kLowest<W>;
  }
}

template <class W>
__global__ void __launch_bounds__(kThreads)
    combine(int64_t rows, int64_t parts, const W* stats, W* row_stats, double* block_sums) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  double loss = 0;
  if (row < rows) {
    W maximum = kLowest<W>, target = kLowest<W>;
    for (int64_t p = 0; p < parts; ++p) {
      const W* const part = stats + 3 * (p * rows + row);
      maximum = part[0] > maximum ? part[0] : maximum;
      target = part[2] > target ? part[2] : target;
    }
    double sum = 0;
    for (int64_t p = 0; p < parts; ++p) {
      const W* const part = stats + 3 * (p * rows + row);
      sum += static_cast<double>(part[1]) * std::exp(static_cast<double>(part[0]) - static_cast<double>(maximum));
    }
    const double log_sum = std::log(sum);
    row_stats[2 * row] = maximum;
    row_stats[2 * row + 1] = static_cast<W>(log_sum);
    // No target counts for nothing, but a logit that is no number shows.
    loss =
        target == -kLowest<W> ? 0.0 * log_sum : log_sum + (static_cast<double>(maximum) - static_cast<double>(target));
  }
  loss = over_block(Sum{}, loss);
  if (threadIdx.x == 0) {
    block_sums[blockIdx.x] = loss;
  }
}

__global__ void __launch_bounds__(kThreads)
    add_losses(int64_t n, const double* block_sums, double scale, bool accumulate, double* loss) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    sum += block_sums[i];
  }
  sum = over_block(Sum{}, sum);
  if (threadIdx.x == 0) {
    *loss = sum * scale + (accumulate ? *loss : 0.0);
  }
}

template <int kPack, class T>
__global__ void __launch_bounds__(kThreads)
    backward(CrossEntropyShape s, const T* logits, const int32_t* targets, const Wide<T>* row_stats, double factors,
             const double* factor, T* gradient) {
  using W = Wide<T>;
  const W scale = static_cast<W>(factor != nullptr ? factors * *factor : factors);
  const int64_t row = blockIdx.x;
  const W maximum = row_stats[2 * row], log_sum = row_stats[2 * row + 1];
  const bool counts = targets[row] >= 0;
  const int64_t target = targets[row] - s.vocab_start;
  for (int64_t c = int64_t{threadIdx.x} * kPack; c < s.cols; c += kThreads * kPack) {
    const auto x = read<kPack>(logits + row * s.cols + c);
    write(gradient + row * s.cols + c, each_of_pack<kPack>([&](int k) {
            if (!counts || c + k >= s.valid) {
              return W{0};
            }
            const W p = std::exp((x.of[k] - maximum) - log_sum);
            return (c + k == target ? p - W{1} : p) * scale;
          }));
  }
}

}  // namespace

void cross_entropy_stats(const Stream& stream, const CrossEntropyShape& s, ConstTensor logits, const int32_t* targets,
                         Tensor stats) {
  arguments::cross_entropy_stats(s, logits, targets, stats);
  with_type(logits.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    with_pack<T>(s.cols, {logits.data}, [&](auto pack) {
      launch(row_stats<decltype(pack)::value, T>, {static_cast<unsigned>(s.rows)}, {kThreads}, stream, s, as<T>(logits),
             targets, as<Wide<T>>(stats));
    });
  });
}

void cross_entropy_combine(const Stream& stream, int64_t rows, int64_t parts, ConstTensor stats, double scale,
                           double* loss, bool accumulate, Tensor row_stats) {
  arguments::cross_entropy_combine(rows, parts, stats, scale, loss, accumulate, row_stats);
  auto* const block_sums = static_cast<double*>(stream.workspace);
  const unsigned blocks = blocks_of(rows, kThreads);
  check_workspace("cross_entropy_combine", blocks * sizeof(double));
  const auto run = [&](auto w) {
    using W = decltype(w);
    launch(combine<W>, {blocks}, {kThreads}, stream, rows, parts, as<W>(stats), as<W>(row_stats), block_sums);
  };
  stats.dtype == Dtype::fp64 ? run(double{}) : run(float{});
  launch(add_losses, {1}, {kThreads}, stream, int64_t{blocks}, block_sums, scale, accumulate, loss);
}

void cross_entropy_backward(const Stream& stream, const CrossEntropyShape& s, ConstTensor logits,
                            const int32_t* targets, ConstTensor row_stats, double scale, Tensor gradient,
                            const double* factor) {
  arguments::cross_entropy_backward(s, logits, targets, row_stats, scale, gradient, factor);
  with_type(logits.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    with_pack<T>(s.cols, {logits.data, gradient.data}, [&](auto pack) {
      launch(backward<decltype(pack)::value, T>, {static_cast<unsigned>(s.rows)}, {kThreads}, stream, s, as<T>(logits),
             targets, as<W>(row_stats), scale, factor, as<T>(gradient));
    });
  });
}

}  // namespace foretrain::kernels::cuda
