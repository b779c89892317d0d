// Activations of one element and their slopes: kernels/reference.cpp's formulas. A gated one is of two inputs.
#pragma once

#include <cmath>
#include <numbers>

#include "kernels/cuda/block.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

template <class W>
struct Pair {
  W first{}, second{};
};

template <class W>
__device__ inline W tanh_of_gelu(W x) {
  constexpr double kSlope = 0.7978845608028654;  // sqrt(2/pi)
  return std::tanh(static_cast<W>(kSlope) * (x + static_cast<W>(0.044715) * x * x * x));
}
template <class W>
__device__ inline W gelu(W x) {
  return static_cast<W>(0.5) * x * (W{1} + tanh_of_gelu(x));
}
template <class W>
__device__ inline W gelu_slope(W x) {
  const W t = tanh_of_gelu(x);
  // Far out 1 - t^2 is 0 while the other factor may overflow.
  const W rest = W{1} - t * t;
  const W du = static_cast<W>(0.7978845608028654) * (W{1} + static_cast<W>(3 * 0.044715) * x * x);
  return static_cast<W>(0.5) * (W{1} + t) + (rest == W{0} ? W{0} : static_cast<W>(0.5) * x * rest * du);
}
template <class W>
__device__ inline W sigmoid(W x) {
  return W{1} / (W{1} + std::exp(-x));
}
template <class W>
__device__ inline W normal(W x) {
  return static_cast<W>(0.5) * (W{1} + std::erf(x / std::numbers::sqrt2_v<W>));
}
template <class W>
__device__ inline W normal_density(W x) {
  return std::exp(-x * x / W{2}) * (std::numbers::inv_sqrtpi_v<W> / std::numbers::sqrt2_v<W>);
}

template <class W>
__device__ inline W clamped_gate(W x) {
  return x < W{7} ? x : W{7};
}
template <class W>
__device__ inline W clamped_up(W x) {
  return (x < W{-7} ? W{-7} : x < W{7} ? x : W{7}) + W{1};
}

// Of x.first, or of gate x.first and up x.second.
template <Activation kind, class W>
__device__ inline W activation(Pair<W> x) {
  const W a = x.first;
  if constexpr (kind == Activation::gelu) {
    return gelu(a);
  } else if constexpr (kind == Activation::gelu_erf) {
    return a * normal(a);
  } else if constexpr (kind == Activation::relu) {
    return a < W{0} ? W{0} : a;
  } else if constexpr (kind == Activation::sigmoid) {
    return sigmoid(a);
  } else if constexpr (kind == Activation::tanh) {
    return std::tanh(a);
  } else if constexpr (kind == Activation::swiglu) {
    return a * sigmoid(a) * x.second;
  } else if constexpr (kind == Activation::geglu) {
    return gelu(a) * x.second;
  } else {
    const W g = clamped_gate(a);
    return g * sigmoid(static_cast<W>(1.702) * g) * clamped_up(x.second);
  }
}

// The gradients of x.first and x.second.
template <Activation kind, class W>
__device__ inline Pair<W> activation_gradient(Pair<W> x, W d) {
  const W a = x.first;
  if constexpr (kind == Activation::gelu) {
    return {d * gelu_slope(a), W{0}};
  } else if constexpr (kind == Activation::gelu_erf) {
    return {d * (normal(a) + a * normal_density(a)), W{0}};
  } else if constexpr (kind == Activation::relu) {
    return {a > W{0} ? d : W{0}, W{0}};
  } else if constexpr (kind == Activation::sigmoid) {
    const W s = sigmoid(a);
    return {d * (s * (W{1} - s)), W{0}};
  } else if constexpr (kind == Activation::tanh) {
    const W t = std::tanh(a);
    return {d * (W{1} - t * t), W{0}};
  } else if constexpr (kind == Activation::swiglu) {
    const W s = sigmoid(a);
    return {d * x.second * (s * (W{1} + a * (W{1} - s))), d * (a * s)};
  } else if constexpr (kind == Activation::geglu) {
    return {d * x.second * gelu_slope(a), d * gelu(a)};
  } else {
    const W g = clamped_gate(a);
    const W s = sigmoid(static_cast<W>(1.702) * g);
    const W slope = s * (W{1} + static_cast<W>(1.702) * g * (W{1} - s));
    return {a < W{7} ? d * clamped_up(x.second) * slope : W{0},
            x.second > W{-7} && x.second < W{7} ? d * (g * s) : W{0}};
  }
}

template <Activation kind>
struct Kind {
  static constexpr Activation value = kind;
};

template <class F>
void with_kind(Activation kind, F f) {
  switch (kind) {
    case Activation::gelu: f(Kind<Activation::gelu>{}); break;
    case Activation::relu: f(Kind<Activation::relu>{}); break;
    case Activation::swiglu: f(Kind<Activation::swiglu>{}); break;
    case Activation::geglu: f(Kind<Activation::geglu>{}); break;
    case Activation::gelu_erf: f(Kind<Activation::gelu_erf>{}); break;
    case Activation::sigmoid: f(Kind<Activation::sigmoid>{}); break;
    case Activation::tanh: f(Kind<Activation::tanh>{}); break;
    case Activation::swiglu_clamped: f(Kind<Activation::swiglu_clamped>{}); break;
  }
}

// The inputs of element `col` of a row of `cols`, and their place for a gradient: x = [rows, cols], or gate|up per row.
template <Activation kind, class T>
__device__ inline Pair<Wide<T>> activation_inputs(const T* x, int64_t row, int64_t col, int64_t cols) {
  if constexpr (is_gated(kind)) {
    return {widen(x[2 * row * cols + col]), widen(x[(2 * row + 1) * cols + col])};
  } else {
    return {widen(x[row * cols + col]), Wide<T>{0}};
  }
}
template <Activation kind, class T>
__device__ inline void put_gradients(T* dx, int64_t row, int64_t col, int64_t cols, Pair<Wide<T>> d) {
  if constexpr (is_gated(kind)) {
    dx[2 * row * cols + col] = narrow<T>(d.first);
    dx[(2 * row + 1) * cols + col] = narrow<T>(d.second);
  } else {
    dx[row * cols + col] = narrow<T>(d.first);
  }
}

}  // namespace foretrain::kernels::cuda
