#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// log(1 + exp(y)) - t y; exp may not overflow.
double logistic_loss(double y, double target) {
  return (y > 0 ? y : 0.0) + ::log1p(::exp(y > 0 ? -y : y)) - target * y;
}

template <class T>
double sum_of(OutputLoss kind, int64_t n, const T* y, const T* target) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    const auto out = static_cast<double>(widen(y[i])), t = static_cast<double>(widen(target[i]));
    sum += kind == OutputLoss::squared_error ? (out - t) * (out - t) : logistic_loss(out, t);
  }
  return sum;
}

template <class T>
void slopes(OutputLoss kind, int64_t n, const T* y, const T* target, Wide<T> scale, T* dy) {
  for_vectors<Wide<T>>(n, [&](int64_t i, auto access) {
    const auto out = access.load(y + i), t = access.load(target + i);
    access.store(dy + i, kind == OutputLoss::squared_error ? 2 * scale * (out - t) : scale * (1 / (1 + exp(-out)) - t));
  });
}

}  // namespace

void output_loss_forward(OutputLoss kind, int64_t n, ConstTensor y, ConstTensor target, double scale, double* loss) {
  with_type(y.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    *loss += scale * sum_of(kind, n, as<T>(y), as<T>(target));
  });
}

void output_loss_backward(OutputLoss kind, int64_t n, ConstTensor y, ConstTensor target, double scale, Tensor dy,
                          const double* factor) {
  const double all = factor != nullptr ? scale * *factor : scale;
  with_type(y.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    slopes(kind, n, as<T>(y), as<T>(target), static_cast<Wide<T>>(all), as<T>(dy));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
