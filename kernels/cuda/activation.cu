#include "kernels/arguments.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// Only the gated ones need to know the row.
template <Activation kind>
__device__ Place element_at(int64_t i, int64_t cols) {
  return is_gated(kind) ? place_of(i, cols) : Place{0, i};
}

template <Activation kind, class T>
__global__ void forward(int64_t n, int64_t cols, const T* x, T* y) {
  each_element(
      n,
      [=](int64_t i) {
        const Place at = element_at<kind>(i, cols);
        return activation<kind>(activation_inputs<kind>(x, at.row, at.col, cols));
      },
      [=](int64_t i, Wide<T> value) { y[i] = narrow<T>(value); });
}

template <Activation kind, class T>
__global__ void backward(int64_t n, int64_t cols, const T* x, const T* dy, T* dx) {
  each_element(
      n,
      [=](int64_t i) {
        const Place at = element_at<kind>(i, cols);
        return activation_gradient<kind>(activation_inputs<kind>(x, at.row, at.col, cols), widen(dy[i]));
      },
      [=](int64_t i, Pair<Wide<T>> d) {
        const Place at = element_at<kind>(i, cols);
        put_gradients<kind>(dx, at.row, at.col, cols, d);
      });
}

}  // namespace

void activation_forward(const Stream& stream, Activation kind, int64_t rows, int64_t cols, ConstTensor x, Tensor y) {
  arguments::activation_forward(kind, rows, cols, x, y);
  with_kind(kind, [&](auto k) {
    with_type(x.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      launch(forward<decltype(k)::value, T>, {blocks_of(rows * cols, kBlockElements)}, {kThreads}, stream, rows * cols,
             cols, as<T>(x), as<T>(y));
    });
  });
}

void activation_backward(const Stream& stream, Activation kind, int64_t rows, int64_t cols, ConstTensor x,
                         ConstTensor dy, Tensor dx) {
  arguments::activation_backward(kind, rows, cols, x, dy, dx);
  with_kind(kind, [&](auto k) {
    with_type(x.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      launch(backward<decltype(k)::value, T>, {blocks_of(rows * cols, kBlockElements)}, {kThreads}, stream, rows * cols,
             cols, as<T>(x), as<T>(dy), as<T>(dx));
    });
  });
}

}  // namespace foretrain::kernels::cuda
