#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr unsigned kNormBlocks = 1024;

template <class T>
__global__ void __launch_bounds__(kThreads) sum_squares(int64_t n, const T* x, double* block_sums) {
  const int64_t stride = int64_t{kThreads} * gridDim.x;
  double sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) {
    const auto d = static_cast<double>(widen(x[i]));
    sum += d * d;
  }
  sum = over_block(Sum{}, sum);
  if (threadIdx.x == 0) {
    block_sums[blockIdx.x] = sum;
  }
}

// The sum of n numbers, in all threads of the block.
__device__ double sum_of(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    sum += x[i];
  }
  return over_block(Sum{}, sum);
}

__global__ void __launch_bounds__(kThreads)
    add_squares(int64_t n, const double* block_sums, double* sum, bool accumulate) {
  const double all = sum_of(block_sums, n);
  if (threadIdx.x == 0) {
    *sum = all + (accumulate ? *sum : 0.0);
  }
}

__global__ void __launch_bounds__(kThreads) coefficient_of(int64_t n, const double* sums, double clip, double* norm,
                                                           double* coefficient, const double* factor) {
  const double by = factor != nullptr ? 1.0 / *factor : 1.0;
  const double all = std::sqrt(sum_of(sums, n)) * by;
  if (threadIdx.x == 0) {
    *norm = all;
    const double ratio = clip / (all + 1e-6);
    *coefficient = (ratio > 1.0 ? 1.0 : ratio) * by;
  }
}

__global__ void loss_scale_of(LossScaleRule rule, const double* norm, LossScaleState* state) {
  if (threadIdx.x != 0) {
    return;
  }
  LossScaleState next = *state;
  if (norm == nullptr) {
    next.scale = next.scale == 0 ? rule.initial : next.scale;
  } else if (std::isfinite(*norm)) {
    next.is_finite = 1;
    next.in_a_row = 0;
    next.steps += 1;
    if (next.steps >= static_cast<double>(rule.interval)) {
      next.scale *= rule.growth;
      next.steps = 0;
    }
  } else {
    next.is_finite = next.steps = 0;
    next.scale *= rule.backoff;
    next.in_a_row += 1;
    next.skipped += 1;
  }
  *state = next;
}

// The step's numbers in the arithmetic of the parameter.
template <class W>
struct Numbers {
  W lr, lr_decay, decay, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, step_size, correction1, inverse_root2;
};

template <class W>
Numbers<W> numbers(const OptimizerStep& s) {
  const auto t = static_cast<double>(s.step);
  return {.lr = static_cast<W>(s.learning_rate),
          .lr_decay = static_cast<W>(s.learning_rate * s.weight_decay),
          .decay = static_cast<W>(s.weight_decay),
          .beta1 = static_cast<W>(s.beta1),
          .one_minus_beta1 = static_cast<W>(1.0 - s.beta1),
          .beta2 = static_cast<W>(s.beta2),
          .one_minus_beta2 = static_cast<W>(1.0 - s.beta2),
          .epsilon = static_cast<W>(s.epsilon),
          .step_size = static_cast<W>(s.learning_rate / (1.0 - std::pow(s.beta1, t))),
          .correction1 = static_cast<W>(1.0 / (1.0 - std::pow(s.beta1, t))),
          .inverse_root2 = static_cast<W>(1.0 / std::sqrt(1.0 - std::pow(s.beta2, t)))};
}

template <class W>
struct Updated {
  W parameter{}, m{}, v{};
};

// A guard that is 0 (cuda::Stream).
__device__ bool is_off(const double* guard) {
  return guard != nullptr && *guard == 0;
}

// What bf16 holds of a parameter is drawn (kernels/rounding.h); every thread makes the words that eight neighbours
// share: they are of several threads.
__device__ Bf16 drawn(const Rounding& r, int64_t step, int64_t i, float x) {
  const Place at = place_of(r.part.first + i, r.part.cols);
  const int64_t index = r.part.index(at.row, at.col);
  return rounded(x, rounding_bits(rounding_words(r, step, index / 8), index));
}

template <class P, class G, class W = Wide<P>>
__global__ void step_kernel(const double* guard, OptimizerKind kind, Numbers<W> k, int64_t step, Rounding rounding,
                            int64_t n, const G* gradient, const double* coefficient, P* parameter, W* m, W* v,
                            Bf16* copy) {
  if (is_off(guard)) {
    return;
  }
  const bool with_m = has_m(kind), with_v = has_v(kind);
  const W factor = coefficient != nullptr ? static_cast<W>(*coefficient) : W{1};
  each_element(
      n,
      [=](int64_t i) {
        Updated<W> x{widen(parameter[i])};
        W g = static_cast<W>(widen(gradient[i])) * factor;
        if (kind == OptimizerKind::adamw) {
          x.parameter -= k.lr_decay * x.parameter;
        } else {
          g += k.decay * x.parameter;
        }
        if (with_v) {
          x.m = k.beta1 * m[i] + k.one_minus_beta1 * g;
          x.v = k.beta2 * v[i] + k.one_minus_beta2 * g * g;
          x.parameter -= k.step_size * x.m / (std::sqrt(x.v) * k.inverse_root2 + k.epsilon);
        } else if (kind == OptimizerKind::rmsprop) {
          x.m = k.beta2 * m[i] + k.one_minus_beta2 * g * g;
          x.parameter -= k.lr * g / (std::sqrt(x.m) + k.epsilon);
        } else if (with_m) {
          x.m = k.beta1 * m[i] + g;
          x.parameter -= k.lr * x.m;
        } else {
          x.parameter -= k.lr * g;
        }
        return x;
      },
      [=](int64_t i, Updated<W> x) {
        if constexpr (std::is_same_v<P, Bf16>) {
          parameter[i] = drawn(rounding, step, i, x.parameter);
        } else {
          parameter[i] = x.parameter;
        }
        if (with_m) {
          m[i] = x.m;
        }
        if (with_v) {
          v[i] = x.v;
        }
        if (copy != nullptr) {
          copy[i] = narrow<Bf16>(x.parameter);
        }
      });
}

template <class W>
__global__ void lamb_updates(const double* guard, Numbers<W> k, int64_t n, W* gradient, const double* coefficient,
                             const W* parameter, W* m, W* v) {
  if (is_off(guard)) {
    return;
  }
  const W factor = coefficient != nullptr ? static_cast<W>(*coefficient) : W{1};
  each_element(
      n,
      [=](int64_t i) {
        const W g = gradient[i] * factor;
        Updated<W> x;
        x.m = k.beta1 * m[i] + k.one_minus_beta1 * g;
        x.v = k.beta2 * v[i] + k.one_minus_beta2 * g * g;
        x.parameter = k.correction1 * x.m / (std::sqrt(x.v) * k.inverse_root2 + k.epsilon) + k.decay * parameter[i];
        return x;
      },
      [=](int64_t i, Updated<W> x) {
        gradient[i] = x.parameter;
        m[i] = x.m;
        v[i] = x.v;
      });
}

template <class W>
__global__ void subtract(const double* guard, int64_t n, double learning_rate, const W* update, const double* weights,
                         const double* updates, W* parameter, Bf16* copy) {
  if (is_off(guard)) {
    return;
  }
  const bool adapts = weights != nullptr && *weights > 0 && *updates > 0;
  const auto factor = static_cast<W>(learning_rate * (adapts ? std::sqrt(*weights / *updates) : 1.0));
  each_element(
      n, [=](int64_t i) { return parameter[i] - factor * update[i]; },
      [=](int64_t i, W p) {
        parameter[i] = p;
        if (copy != nullptr) {
          copy[i] = narrow<Bf16>(p);
        }
      });
}

}  // namespace

void squared_norm(const Stream& stream, ConstTensor x, int64_t n, double* sum, bool accumulate) {
  arguments::squared_norm(x, n, sum, accumulate);
  auto* const block_sums = static_cast<double*>(stream.workspace);
  const unsigned wanted = blocks_of(n, kBlockElements);
  const unsigned blocks = wanted < kNormBlocks ? wanted : kNormBlocks;
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(sum_squares<T>, {blocks}, {kThreads}, stream, n, as<T>(x), block_sums);
  });
  launch(add_squares, {1}, {kThreads}, stream, int64_t{blocks}, block_sums, sum, accumulate);
}

void clip_coefficient(const Stream& stream, std::span<const double> sums, double clip, double* norm,
                      double* coefficient, const double* factor) {
  launch(coefficient_of, {1}, {kThreads}, stream, static_cast<int64_t>(sums.size()), sums.data(), clip, norm,
         coefficient, factor);
}

void update_loss_scale(const Stream& stream, const LossScaleRule& rule, const double* norm, LossScaleState* state) {
  launch(loss_scale_of, {1}, {kThreads}, stream, rule, norm, state);
}

void lamb_update(const Stream& stream, const OptimizerStep& s, int64_t n, Tensor gradient, const double* coefficient,
                 ConstTensor parameter, Tensor m, Tensor v) {
  arguments::lamb_update(s, n, gradient, coefficient, parameter, m, v);
  const auto run = [&](auto w) {
    using W = decltype(w);
    launch(lamb_updates<W>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, stream.guard, numbers<W>(s), n,
           as<W>(gradient), coefficient, as<W>(parameter), as<W>(m), as<W>(v));
  };
  parameter.dtype == Dtype::fp64 ? run(double{}) : run(float{});
}

void lamb_step(const Stream& stream, int64_t n, double learning_rate, ConstTensor update, const double* weights,
               const double* updates, Tensor parameter, Tensor copy) {
  arguments::lamb_step(n, learning_rate, update, weights, updates, parameter, copy);
  const auto run = [&](auto w) {
    using W = decltype(w);
    launch(subtract<W>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, stream.guard, n, learning_rate,
           as<W>(update), weights, updates, as<W>(parameter), as<Bf16>(copy));
  };
  parameter.dtype == Dtype::fp64 ? run(double{}) : run(float{});
}

void optimizer_step(const Stream& stream, const OptimizerStep& s, int64_t n, ConstTensor gradient,
                    const double* coefficient, Tensor parameter, Tensor m, Tensor v, Tensor copy) {
  arguments::optimizer_step(s, n, gradient, coefficient, parameter, m, v, copy);
  with_types(parameter.dtype, gradient.dtype, [&]<class P, class Q>(P, Q) {
    using T = typename P::type;
    using G = typename Q::type;
    using W = Wide<T>;
    launch(step_kernel<T, G>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, stream.guard, s.kind, numbers<W>(s),
           s.step, s.rounding, n, as<G>(gradient), coefficient, as<T>(parameter), as<W>(m), as<W>(v), as<Bf16>(copy));
  });
}

}  // namespace foretrain::kernels::cuda
