#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// log(1 + exp(y)) - t y; exp may not overflow.
__device__ double logistic_loss(double y, double target) {
  return (y > 0 ? y : 0.0) + std::log1p(std::exp(y > 0 ? -y : y)) - target * y;
}

// One block: outputs are few beside what made them.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_loss(OutputLoss kind, int64_t n, const T* y, const T* target, double scale, double* loss) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const auto out = static_cast<double>(widen(y[i])), t = static_cast<double>(widen(target[i]));
    sum += kind == OutputLoss::squared_error ? (out - t) * (out - t) : logistic_loss(out, t);
  }
  sum = over_block(Sum{}, sum);
  if (threadIdx.x == 0) {
    *loss += scale * sum;
  }
}

template <class T>
__global__ void slopes(OutputLoss kind, int64_t n, const T* y, const T* target, double factors, const double* factor,
                       T* dy) {
  const auto scale = static_cast<Wide<T>>(factor != nullptr ? factors * *factor : factors);
  each_element(
      n,
      [=](int64_t i) {
        const Wide<T> out = widen(y[i]), t = widen(target[i]);
        return kind == OutputLoss::squared_error ? Wide<T>{2} * scale * (out - t) : scale * (sigmoid(out) - t);
      },
      [=](int64_t i, Wide<T> d) { dy[i] = narrow<T>(d); });
}

}  // namespace

void output_loss_forward(const Stream& stream, OutputLoss kind, int64_t n, ConstTensor y, ConstTensor target,
                         double scale, double* loss) {
  arguments::output_loss_forward(kind, n, y, target, scale, loss);
  with_type(y.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(add_loss<T>, {1}, {kThreads}, stream, kind, n, as<T>(y), as<T>(target), scale, loss);
  });
}

void output_loss_backward(const Stream& stream, OutputLoss kind, int64_t n, ConstTensor y, ConstTensor target,
                          double scale, Tensor dy, const double* factor) {
  arguments::output_loss_backward(kind, n, y, target, scale, dy, factor);
  with_type(y.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(slopes<T>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, kind, n, as<T>(y), as<T>(target), scale,
           factor, as<T>(dy));
  });
}

}  // namespace foretrain::kernels::cuda
