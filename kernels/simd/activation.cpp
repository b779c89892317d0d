#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

template <class V>
struct ValueAndSlope {
  V value, slope;
};

template <class V>
FORETRAIN_INLINE V sigmoid(V x) {
  return 1 / (1 + exp(-x));
}

template <class V>
FORETRAIN_INLINE ValueAndSlope<V> silu(V x) {
  const V s = sigmoid(x);
  return {x * s, s * (1 + x * (1 - s))};
}

// Of gpt-oss's gate; beyond the limit nothing changes.
constexpr double kClamp = 7.0;
template <class V>
FORETRAIN_INLINE ValueAndSlope<V> clamped_gate(V x) {
  using W = decltype(x[0] + x[0]);
  constexpr W limit = static_cast<W>(kClamp), steep = static_cast<W>(1.702);
  const V gate = x < limit ? x : limit + V{};
  const V s = sigmoid(steep * gate);
  return {gate * s, x < limit ? s * (1 + steep * gate * (1 - s)) : V{}};
}

// What a gate is multiplied by.
template <class V>
FORETRAIN_INLINE ValueAndSlope<V> same(V x) {
  return {x, 1 + V{}};
}
template <class V>
FORETRAIN_INLINE ValueAndSlope<V> clamped_up(V x) {
  using W = decltype(x[0] + x[0]);
  constexpr W limit = static_cast<W>(kClamp);
  const V low = x < -limit ? -limit + V{} : x;
  return {1 + (low < limit ? low : limit + V{}), x < limit && x > -limit ? 1 + V{} : V{}};
}

// 0.5 (1 + tanh u) is sigmoid(2u): gelu(x) = x sigmoid(x (a + b x^2)) with a = 2 sqrt(2/pi), b = 0.044715 a.
template <class V>
FORETRAIN_INLINE ValueAndSlope<V> gelu(V x) {
  using W = decltype(x[0] + x[0]);
  constexpr W a = static_cast<W>(1.5957691216057308);
  constexpr W b = static_cast<W>(0.044715 * 1.5957691216057308);
  const V square = x * x;
  const V s = sigmoid(x * (a + b * square));
  return {x * s, s + x * s * (1 - s) * (a + 3 * b * square)};
}

// The normal distribution function of x, whose e is exp(-x^2 / 2). Its lower end is e R(1 / (1 + p |x|)), the form of
// Abramowitz and Stegun 26.2.17, with R of degree 8 by the Remez algorithm (relative error 1e-7).
FORETRAIN_INLINE Vec<float> normal(Vec<float> x, Vec<float> e) {
  const Vec<float> t = 1 / (1 + 0.2316419f * (x < 0 ? -x : x));
  Vec<float> r = 0.25081699f - 0.07115022f * t;
  r = 0.23068453f + t * (t * r - 0.20727912f);
  r = 0.09024771f + t * (0.10364069f + t * (0.01050482f + t * r));
  const Vec<float> tail = e * t * (0.09253463f + t * r);
  return x < 0 ? tail : 1 - tail;
}

// Lane by lane, as exp of a double is.
FORETRAIN_INLINE Vec<double> normal(Vec<double> x, Vec<double>) {
  for (int i = 0; i < kLanes<double>; ++i) {
    x[i] = 0.5 * std::erfc(x[i] * -0.7071067811865476);
  }
  return x;
}

template <class V>
FORETRAIN_INLINE ValueAndSlope<V> gelu_erf(V x) {
  using W = decltype(x[0] + x[0]);
  const V e = exp(x * x * static_cast<W>(-0.5)), p = normal(x, e);
  return {x * p, p + x * static_cast<W>(0.3989422804014327) * e};
}

template <class V>
FORETRAIN_INLINE ValueAndSlope<V> logistic(V x) {
  const V s = sigmoid(x);
  return {s, s * (1 - s)};
}

// Lane by lane: of a classifier's first tokens alone, and near 0 a sigmoid's digits would cancel.
template <class V>
FORETRAIN_INLINE ValueAndSlope<V> hyperbolic(V x) {
  using W = decltype(x[0] + x[0]);
  for (std::size_t i = 0; i < sizeof(V) / sizeof(W); ++i) {
    x[i] = std::tanh(x[i]);
  }
  return {x, 1 - x * x};
}

template <class V>
FORETRAIN_INLINE ValueAndSlope<V> relu(V x) {
  return {x > 0 ? x : V{}, x > 0 ? 1 + V{} : V{}};
}

// Calls f with the function of a kind, for a gated one that of its gate, and with that of what a gate multiplies.
template <class F>
FORETRAIN_INLINE void with_function(Activation kind, F f) {
  const auto plain = [](auto x) { return same(x); };
  switch (kind) {
    case Activation::gelu:
    case Activation::geglu: f([](auto x) { return gelu(x); }, plain); break;
    case Activation::gelu_erf: f([](auto x) { return gelu_erf(x); }, plain); break;
    case Activation::relu: f([](auto x) { return relu(x); }, plain); break;
    case Activation::sigmoid: f([](auto x) { return logistic(x); }, plain); break;
    case Activation::tanh: f([](auto x) { return hyperbolic(x); }, plain); break;
    case Activation::swiglu: f([](auto x) { return silu(x); }, plain); break;
    case Activation::swiglu_clamped:
      f([](auto x) { return clamped_gate(x); }, [](auto x) { return clamped_up(x); });
      break;
  }
}

template <class T, class F>
void plain_forward(int64_t n, const T* x, T* y, F function) {
  for_vectors<Wide<T>>(n, [&](int64_t i, auto access) { access.store(y + i, function(access.load(x + i)).value); });
}

template <class T, class F>
void plain_backward(int64_t n, const T* x, const T* dy, T* dx, F function) {
  for_vectors<Wide<T>>(n, [&](int64_t i, auto access) {
    access.store(dx + i, access.load(dy + i) * function(access.load(x + i)).slope);
  });
}

template <class T, class F, class G>
void gated_forward(int64_t rows, int64_t cols, const T* x, T* y, F function, G of_up) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = x + 2 * r * cols;
    for_vectors<Wide<T>>(cols, [&](int64_t i, auto access) {
      access.store(y + r * cols + i, function(access.load(gate + i)).value * of_up(access.load(gate + cols + i)).value);
    });
  }
}

template <class T, class F, class G>
void gated_backward(int64_t rows, int64_t cols, const T* x, const T* dy, T* dx, F function, G of_up) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = x + 2 * r * cols;
    T* dgate = dx + 2 * r * cols;
    for_vectors<Wide<T>>(cols, [&](int64_t i, auto access) {
      const auto f = function(access.load(gate + i));
      const auto d = access.load(dy + r * cols + i);
      const auto up = of_up(access.load(gate + cols + i));
      access.store(dgate + i, d * up.value * f.slope);
      access.store(dgate + cols + i, d * f.value * up.slope);
    });
  }
}

}  // namespace

void activation_forward(Activation kind, int64_t rows, int64_t cols, ConstTensor x, Tensor y) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    with_function(kind, [&](auto function, auto of_up) {
      if (is_gated(kind)) {
        gated_forward(rows, cols, as<T>(x), as<T>(y), function, of_up);
      } else {
        plain_forward(rows * cols, as<T>(x), as<T>(y), function);
      }
    });
  });
}

void activation_backward(Activation kind, int64_t rows, int64_t cols, ConstTensor x, ConstTensor dy, Tensor dx) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    with_function(kind, [&](auto function, auto of_up) {
      if (is_gated(kind)) {
        gated_backward(rows, cols, as<T>(x), as<T>(dy), as<T>(dx), function, of_up);
      } else {
        plain_backward(rows * cols, as<T>(x), as<T>(dy), as<T>(dx), function);
      }
    });
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
