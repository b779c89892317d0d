// A block for each row.
#include "kernels/arguments.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

template <Activation kind, class T>
__global__ void __launch_bounds__(kThreads)
    forward(const std::int32_t* count, int64_t cols, const T* x, const Wide<T>* weights, T* y) {
  const int64_t row = blockIdx.x;
  if (count != nullptr && row >= *count) {
    return;
  }
  const Wide<T> weight = weights[row];
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    y[row * cols + c] = narrow<T>(weight * activation<kind>(activation_inputs<kind>(x, row, c, cols)));
  }
}

template <Activation kind, class T>
__global__ void __launch_bounds__(kThreads) backward(const std::int32_t* count, int64_t cols, const T* x,
                                                     const Wide<T>* weights, const T* dy, T* dx, Wide<T>* dweights) {
  const int64_t row = blockIdx.x;
  if (count != nullptr && row >= *count) {
    return;
  }
  const Wide<T> weight = weights[row];
  Wide<T> sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const Pair<Wide<T>> in = activation_inputs<kind>(x, row, c, cols);
    const Wide<T> d = widen(dy[row * cols + c]);
    sum += d * activation<kind>(in);
    put_gradients<kind>(dx, row, c, cols, activation_gradient<kind>(in, d * weight));
  }
  sum = over_block(Sum{}, sum);
  if (threadIdx.x == 0) {
    dweights[row] = sum;
  }
}

}  // namespace

void expert_activation_forward(const Stream& stream, Activation kind, int64_t rows, const std::int32_t* count,
                               int64_t cols, ConstTensor x, ConstTensor weights, Tensor y) {
  arguments::expert_activation_forward(kind, rows, cols, x, weights, y);
  with_kind(kind, [&](auto k) {
    with_type(x.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      launch(forward<decltype(k)::value, T>, {static_cast<unsigned>(rows)}, {kThreads}, stream, count, cols, as<T>(x),
             as<Wide<T>>(weights), as<T>(y));
    });
  });
}

void expert_activation_backward(const Stream& stream, Activation kind, int64_t rows, const std::int32_t* count,
                                int64_t cols, ConstTensor x, ConstTensor weights, ConstTensor dy, Tensor dx,
                                Tensor dweights) {
  arguments::expert_activation_backward(kind, rows, cols, x, weights, dy, dx, dweights);
  with_kind(kind, [&](auto k) {
    with_type(x.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      launch(backward<decltype(k)::value, T>, {static_cast<unsigned>(rows)}, {kThreads}, stream, count, cols, as<T>(x),
             as<Wide<T>>(weights), as<T>(dy), as<T>(dx), as<Wide<T>>(dweights));
    });
  });
}

}  // namespace foretrain::kernels::cuda
