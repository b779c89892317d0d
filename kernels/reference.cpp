#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/philox.h"

namespace foretrain::kernels::reference {

namespace {

using std::int64_t;

constexpr double kGeluSlope = 0.7978845608028654;  // sqrt(2/pi), Hendrycks & Gimpel 2016, tanh approximation
constexpr double kGeluCubic = 0.044715;

template <class T>
T gelu(T x) {
  const T u = static_cast<T>(kGeluSlope) * (x + static_cast<T>(kGeluCubic) * x * x * x);
  return static_cast<T>(0.5) * x * (T{1} + std::tanh(u));
}

template <class T>
T gelu_slope(T x) {
  const T u = static_cast<T>(kGeluSlope) * (x + static_cast<T>(kGeluCubic) * x * x * x);
  const T t = std::tanh(u);
  const T du = static_cast<T>(kGeluSlope) * (T{1} + static_cast<T>(3 * kGeluCubic) * x * x);
  return static_cast<T>(0.5) * (T{1} + t) + static_cast<T>(0.5) * x * (T{1} - t * t) * du;
}

template <class T>
T silu(T x) {
  return x / (T{1} + std::exp(-x));
}

template <class T>
T silu_slope(T x) {
  const T s = T{1} / (T{1} + std::exp(-x));
  return s * (T{1} + x * (T{1} - s));
}

// The normal distribution function and its density.
template <class T>
T normal(T x) {
  return static_cast<T>(0.5) * (T{1} + std::erf(x / std::numbers::sqrt2_v<T>));
}

template <class T>
T normal_density(T x) {
  return std::exp(-x * x / T{2}) * std::numbers::inv_sqrtpi_v<T> / std::numbers::sqrt2_v<T>;
}

}  // namespace

template <class T>
void matmul(const MatmulShape& s, const T* a, const T* b, const T* bias, T* c, bool accumulate) {
  const int64_t lda = s.lda != 0 ? s.lda : (s.transpose_a ? s.m : s.k);
  const int64_t ldb = s.ldb != 0 ? s.ldb : (s.transpose_b ? s.k : s.n);
  const int64_t ldc = s.ldc != 0 ? s.ldc : s.n;
  for (int64_t batch = 0; batch < s.batch; ++batch) {
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        T sum = 0;
        for (int64_t l = 0; l < s.k; ++l) {
          sum += a[batch * s.stride_a + (s.transpose_a ? l * lda + i : i * lda + l)] *
                 b[batch * s.stride_b + (s.transpose_b ? j * ldb + l : l * ldb + j)];
        }
        T& out = c[batch * s.stride_c + i * ldc + j];
        out = sum + (bias != nullptr ? bias[j] : T{0}) + (accumulate ? out : T{0});
      }
    }
  }
}

template <class T>
void norm_forward(const NormShape& s, const T* x, const T* gain, const T* bias, T* y, T* mean, T* rstd) {
  const bool centred = s.kind == NormKind::layernorm;
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* in = x + r * s.cols;
    T sum = 0;
    for (int64_t c = 0; centred && c < s.cols; ++c) {
      sum += in[c];
    }
    const T mu = sum / static_cast<T>(s.cols);
    T squares = 0;
    for (int64_t c = 0; c < s.cols; ++c) {
      squares += (in[c] - mu) * (in[c] - mu);
    }
    rstd[r] = T{1} / std::sqrt(squares / static_cast<T>(s.cols) + static_cast<T>(s.epsilon));
    if (centred) {
      mean[r] = mu;
    }
    for (int64_t c = 0; c < s.cols; ++c) {
      y[r * s.cols + c] = (in[c] - mu) * rstd[r] * gain[c] + (bias != nullptr ? bias[c] : T{0});
    }
  }
}

// With n = (x - mean) rstd and g = dy gain: dx = rstd (g - mean(g) - n mean(g n)); rmsnorm has no mean(g).
template <class T>
void norm_backward_input(const NormShape& s, const T* x, const T* gain, const T* dy, const T* mean, const T* rstd,
                         T* dx, bool accumulate) {
  const bool centred = s.kind == NormKind::layernorm;
  for (int64_t r = 0; r < s.rows; ++r) {
    const T mu = centred ? mean[r] : T{0};
    T mean_g = 0;
    T mean_gn = 0;
    for (int64_t c = 0; c < s.cols; ++c) {
      const T g = dy[r * s.cols + c] * gain[c];
      mean_g += centred ? g : T{0};
      mean_gn += g * (x[r * s.cols + c] - mu) * rstd[r];
    }
    mean_g /= static_cast<T>(s.cols);
    mean_gn /= static_cast<T>(s.cols);
    for (int64_t c = 0; c < s.cols; ++c) {
      const T n = (x[r * s.cols + c] - mu) * rstd[r];
      const T value = rstd[r] * (dy[r * s.cols + c] * gain[c] - mean_g - n * mean_gn);
      T& out = dx[r * s.cols + c];
      out = value + (accumulate ? out : T{0});
    }
  }
}

template <class T>
void norm_backward_weight(const NormShape& s, const T* x, const T* dy, const T* mean, const T* rstd, T* dgain, T* dbias,
                          bool accumulate) {
  for (int64_t c = 0; c < s.cols; ++c) {
    T gain = 0;
    T bias = 0;
    for (int64_t r = 0; r < s.rows; ++r) {
      const T mu = s.kind == NormKind::layernorm ? mean[r] : T{0};
      gain += dy[r * s.cols + c] * (x[r * s.cols + c] - mu) * rstd[r];
      bias += dy[r * s.cols + c];
    }
    dgain[c] = gain + (accumulate ? dgain[c] : T{0});
    if (dbias != nullptr) {
      dbias[c] = bias + (accumulate ? dbias[c] : T{0});
    }
  }
}

// Of gpt-oss: https://github.com/openai/gpt-oss/blob/main/gpt_oss/torch/model.py (swiglu).
template <class T>
T clamped_gate(T x) {
  return std::min(x, T{7});
}
template <class T>
T clamped_up(T x) {
  return std::clamp(x, T{-7}, T{7}) + T{1};
}
template <class T>
T quick_gelu(T x) {
  return x / (T{1} + std::exp(static_cast<T>(-1.702) * x));
}

template <class T>
void activation_forward(Activation kind, int64_t rows, int64_t cols, const T* x, T* y) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      T& out = y[r * cols + c];
      const T* gated = x + 2 * r * cols + c;
      switch (kind) {
        case Activation::gelu: out = gelu(x[r * cols + c]); break;
        case Activation::gelu_erf: out = x[r * cols + c] * normal(x[r * cols + c]); break;
        case Activation::relu: out = std::max(x[r * cols + c], T{0}); break;
        case Activation::sigmoid: out = T{1} / (T{1} + std::exp(-x[r * cols + c])); break;
        case Activation::tanh: out = std::tanh(x[r * cols + c]); break;
        case Activation::swiglu: out = silu(gated[0]) * gated[cols]; break;
        case Activation::geglu: out = gelu(gated[0]) * gated[cols]; break;
        case Activation::swiglu_clamped: out = quick_gelu(clamped_gate(gated[0])) * clamped_up(gated[cols]); break;
      }
    }
  }
}

template <class T>
void activation_backward(Activation kind, int64_t rows, int64_t cols, const T* x, const T* dy, T* dx) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t plain = r * cols + c;
      const int64_t gate = 2 * r * cols + c;
      const T d = dy[plain];
      switch (kind) {
        case Activation::gelu: dx[plain] = d * gelu_slope(x[plain]); break;
        case Activation::gelu_erf: dx[plain] = d * (normal(x[plain]) + x[plain] * normal_density(x[plain])); break;
        case Activation::relu: dx[plain] = x[plain] > T{0} ? d : T{0}; break;
        case Activation::sigmoid: {
          const T s = T{1} / (T{1} + std::exp(-x[plain]));
          dx[plain] = d * s * (T{1} - s);
          break;
        }
        case Activation::tanh: dx[plain] = d * (T{1} - std::tanh(x[plain]) * std::tanh(x[plain])); break;
        case Activation::swiglu:
          dx[gate] = d * x[gate + cols] * silu_slope(x[gate]);
          dx[gate + cols] = d * silu(x[gate]);
          break;
        case Activation::geglu:
          dx[gate] = d * x[gate + cols] * gelu_slope(x[gate]);
          dx[gate + cols] = d * gelu(x[gate]);
          break;
        case Activation::swiglu_clamped: {
          const T s = T{1} / (T{1} + std::exp(static_cast<T>(-1.702) * clamped_gate(x[gate])));
          const T slope = s * (T{1} + static_cast<T>(1.702) * clamped_gate(x[gate]) * (T{1} - s));
          dx[gate] = x[gate] < T{7} ? d * clamped_up(x[gate + cols]) * slope : T{0};
          dx[gate + cols] = std::abs(x[gate + cols]) < T{7} ? d * quick_gelu(clamped_gate(x[gate])) : T{0};
          break;
        }
      }
    }
  }
}

template <class T>
void residual_add(int64_t rows, int64_t cols, const T* a, const T* b, const T* bias, T* y) {
  for (int64_t i = 0; i < rows * cols; ++i) {
    y[i] = a[i] + b[i] + (bias != nullptr ? bias[i % cols] : T{0});
  }
}

template <class T>
void bias_gradient(int64_t rows, int64_t cols, const T* dy, T* db, bool accumulate) {
  for (int64_t c = 0; c < cols; ++c) {
    T sum = 0;
    for (int64_t r = 0; r < rows; ++r) {
      sum += dy[r * cols + c];
    }
    db[c] = sum + (accumulate ? db[c] : T{0});
  }
}

template <class T>
void embedding_forward(const EmbeddingShape& s, const std::int32_t* ids, const T* wte, const T* wpe, T* out) {
  for (int64_t t = 0; t < s.tokens; ++t) {
    const int64_t row = ids[t] - s.vocab_start;
    const int64_t position = s.position_offset + t % s.seq;
    for (int64_t c = 0; c < s.cols; ++c) {
      out[t * s.cols + c] = (row >= 0 && row < s.vocab_rows ? wte[row * s.cols + c] : T{0}) +
                            (wpe != nullptr ? wpe[position * s.cols + c] : T{0});
    }
  }
}

template <class T>
void embedding_backward(const EmbeddingShape& s, const std::int32_t* ids, const T* dout, T* dwte, T* dwpe) {
  for (int64_t t = 0; t < s.tokens; ++t) {
    const int64_t row = ids[t] - s.vocab_start;
    const int64_t position = s.position_offset + t % s.seq;
    for (int64_t c = 0; c < s.cols; ++c) {
      if (dwte != nullptr && row >= 0 && row < s.vocab_rows) {
        dwte[row * s.cols + c] += dout[t * s.cols + c];
      }
      if (dwpe != nullptr) {
        dwpe[position * s.cols + c] += dout[t * s.cols + c];
      }
    }
  }
}

template <class T>
void cross_entropy_stats(const CrossEntropyShape& s, const T* logits, const std::int32_t* targets, T* stats) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* x = logits + r * s.cols;
    T maximum = -std::numeric_limits<T>::infinity();
    for (int64_t c = 0; c < s.valid; ++c) {
      maximum = std::max(maximum, x[c]);
    }
    T sum = 0;
    for (int64_t c = 0; c < s.valid; ++c) {
      sum += std::exp(x[c] - maximum);
    }
    const int64_t target = targets[r] - s.vocab_start;
    stats[3 * r] = maximum;
    stats[3 * r + 1] = sum;
    const T infinity = std::numeric_limits<T>::infinity();
    stats[3 * r + 2] = targets[r] < 0 ? infinity : target >= 0 && target < s.valid ? x[target] : -infinity;
  }
}

template <class T>
void cross_entropy_combine(int64_t rows, int64_t parts, const T* stats, double scale, double* loss, bool accumulate,
                           T* row_stats) {
  double total = 0.0;
  for (int64_t r = 0; r < rows; ++r) {
    T maximum = -std::numeric_limits<T>::infinity();
    T target = -std::numeric_limits<T>::infinity();
    for (int64_t p = 0; p < parts; ++p) {
      maximum = std::max(maximum, stats[3 * (p * rows + r)]);
      target = std::max(target, stats[3 * (p * rows + r) + 2]);
    }
    T sum = 0;
    for (int64_t p = 0; p < parts; ++p) {
      sum += stats[3 * (p * rows + r) + 1] * std::exp(stats[3 * (p * rows + r)] - maximum);
    }
    row_stats[2 * r] = maximum;
    row_stats[2 * r + 1] = std::log(sum);
    total += target == std::numeric_limits<T>::infinity()
                 ? 0.0
                 : static_cast<double>(row_stats[2 * r + 1] + (maximum - target));
  }
  *loss = total * scale + (accumulate ? *loss : 0.0);
}

template <class T>
void cross_entropy_backward(const CrossEntropyShape& s, T* logits, const std::int32_t* targets, const T* row_stats,
                            double scale) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t target = targets[r] - s.vocab_start;
    for (int64_t c = 0; c < s.cols; ++c) {
      T& x = logits[r * s.cols + c];
      const T p = std::exp(x - row_stats[2 * r] - row_stats[2 * r + 1]);
      x = c < s.valid && targets[r] >= 0 ? (p - (c == target ? T{1} : T{0})) * static_cast<T>(scale) : T{0};
    }
  }
}

template <class T>
double output_loss_forward(OutputLoss kind, int64_t n, const T* y, const T* target, double scale) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto out = static_cast<double>(y[i]), t = static_cast<double>(target[i]);
    sum += kind == OutputLoss::squared_error ? (out - t) * (out - t)
                                             : std::max(out, 0.0) + std::log1p(std::exp(-std::abs(out))) - t * out;
  }
  return scale * sum;
}

template <class T>
void output_loss_backward(OutputLoss kind, int64_t n, const T* y, const T* target, double scale, T* dy) {
  for (int64_t i = 0; i < n; ++i) {
    const T slope =
        kind == OutputLoss::squared_error ? 2 * (y[i] - target[i]) : T{1} / (T{1} + std::exp(-y[i])) - target[i];
    dy[i] = static_cast<T>(scale) * slope;
  }
}

template <class T>
void optimizer_step(const OptimizerStep& s, int64_t n, const T* gradient, const double* coefficient, T* parameter, T* m,
                    T* v) {
  const double t = static_cast<double>(s.step);
  const T lr = static_cast<T>(s.learning_rate);
  const T decay = static_cast<T>(s.weight_decay);
  const T beta1 = static_cast<T>(s.beta1);
  const T beta2 = static_cast<T>(s.beta2);
  const T correction1 = static_cast<T>(1.0 - std::pow(s.beta1, t));
  const T correction2 = static_cast<T>(1.0 - std::pow(s.beta2, t));
  const T factor = coefficient != nullptr ? static_cast<T>(*coefficient) : T{1};
  for (int64_t i = 0; i < n; ++i) {
    T& p = parameter[i];
    T g = gradient[i] * factor;
    if (s.kind == OptimizerKind::adamw) {
      p -= lr * decay * p;
    } else {
      g += decay * p;
    }
    switch (s.kind) {
      case OptimizerKind::sgd: p -= lr * g; break;
      case OptimizerKind::momentum:
        m[i] = beta1 * m[i] + g;
        p -= lr * m[i];
        break;
      case OptimizerKind::rmsprop:
        m[i] = beta2 * m[i] + (T{1} - beta2) * g * g;
        p -= lr * g / (std::sqrt(m[i]) + static_cast<T>(s.epsilon));
        break;
      case OptimizerKind::lamb: break;  // lamb_update, lamb_step
      case OptimizerKind::adam:
      case OptimizerKind::adamw:
        m[i] = beta1 * m[i] + (T{1} - beta1) * g;
        v[i] = beta2 * v[i] + (T{1} - beta2) * g * g;
        p -= lr * (m[i] / correction1) / (std::sqrt(v[i] / correction2) + static_cast<T>(s.epsilon));
        break;
    }
  }
}

template <class T>
void lamb_update(const OptimizerStep& s, int64_t n, T* gradient, const double* coefficient, const T* parameter, T* m,
                 T* v) {
  OptimizerStep adam = s;
  adam.kind = OptimizerKind::adam;
  adam.weight_decay = 0;
  adam.learning_rate = 1;
  for (int64_t i = 0; i < n; ++i) {
    T moved{0};
    optimizer_step(adam, 1, gradient + i, coefficient, &moved, m + i, v + i);
    gradient[i] = static_cast<T>(s.weight_decay) * parameter[i] - moved;
  }
}

template <class T>
void lamb_step(int64_t n, double learning_rate, const T* update, const double* weights, const double* updates,
               T* parameter) {
  const bool adapts = weights != nullptr && *weights > 0 && *updates > 0;
  const T factor = static_cast<T>(learning_rate * (adapts ? std::sqrt(*weights / *updates) : 1.0));
  for (int64_t i = 0; i < n; ++i) {
    parameter[i] -= factor * update[i];
  }
}

// The value of element i: Philox4x32-10 with key seed and counter (i / 2, tensor) gives two uniform doubles, of which
// Box–Muller makes two normal ones, for the even and the odd element.
void init_normal(const InitShape& s, double standard_deviation, double* x) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.cols; ++c) {
      const auto i = static_cast<std::uint64_t>((s.row_offset + r) * s.global_cols + s.col_offset + c);
      const UniformPair u = philox_uniform(s.seed, i / 2, s.tensor);
      const double radius = std::sqrt(-2.0 * std::log(1.0 - u.first));
      const double angle = 2.0 * std::numbers::pi * u.second;
      x[r * s.cols + c] = standard_deviation * radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    }
  }
}

void init_uniform(const InitShape& s, double low, double high, double* x) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.cols; ++c) {
      const auto i = static_cast<std::uint64_t>((s.row_offset + r) * s.global_cols + s.col_offset + c);
      const UniformPair u = philox_uniform(s.seed, i / 2, s.tensor);
      x[r * s.cols + c] = low + (high - low) * (i % 2 == 0 ? u.first : u.second);
    }
  }
}

#define INSTANTIATE(T)                                                                                             \
  template void matmul(const MatmulShape&, const T*, const T*, const T*, T*, bool);                                \
  template void norm_forward(const NormShape&, const T*, const T*, const T*, T*, T*, T*);                          \
  template void norm_backward_input(const NormShape&, const T*, const T*, const T*, const T*, const T*, T*, bool); \
  template void norm_backward_weight(const NormShape&, const T*, const T*, const T*, const T*, T*, T*, bool);      \
  template void activation_forward(Activation, int64_t, int64_t, const T*, T*);                                    \
  template void activation_backward(Activation, int64_t, int64_t, const T*, const T*, T*);                         \
  template void residual_add(int64_t, int64_t, const T*, const T*, const T*, T*);                                  \
  template void bias_gradient(int64_t, int64_t, const T*, T*, bool);                                               \
  template void embedding_forward(const EmbeddingShape&, const std::int32_t*, const T*, const T*, T*);             \
  template void embedding_backward(const EmbeddingShape&, const std::int32_t*, const T*, T*, T*);                  \
  template void cross_entropy_stats(const CrossEntropyShape&, const T*, const std::int32_t*, T*);                  \
  template void cross_entropy_combine(int64_t, int64_t, const T*, double, double*, bool, T*);                      \
  template void cross_entropy_backward(const CrossEntropyShape&, T*, const std::int32_t*, const T*, double);       \
  template double output_loss_forward(OutputLoss, int64_t, const T*, const T*, double);                            \
  template void output_loss_backward(OutputLoss, int64_t, const T*, const T*, double, T*);                         \
  template void optimizer_step(const OptimizerStep&, int64_t, const T*, const double*, T*, T*, T*);                \
  template void lamb_update(const OptimizerStep&, int64_t, T*, const double*, const T*, T*, T*);                   \
  template void lamb_step(int64_t, double, const T*, const double*, const double*, T*)
INSTANTIATE(float);
INSTANTIATE(double);
#undef INSTANTIATE

}  // namespace foretrain::kernels::reference
