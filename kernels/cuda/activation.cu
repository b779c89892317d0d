#include "kernels/arguments.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// Where the inputs of element i of [rows, cols] stand, and their gradients: x = [rows, cols], or gate|up per row.
struct Inputs {
  int64_t first, second;
};
template <Activation kind>
__device__ Inputs inputs_of(int64_t i, int64_t cols) {
  if constexpr (is_gated(kind)) {
    const int64_t first = i + place_of(i, cols).row * cols;
    return {first, first + cols};
  } else {
    return {i, i};
  }
}

template <class W, int kPack>
struct InputValues {
  Values<W, kPack> first, second;

  __device__ Pair<W> operator[](int k) const { return {first.of[k], second.of[k]}; }
};
template <int kPack, Activation kind, class T>
__device__ InputValues<Wide<T>, kPack> read_inputs(const T* x, Inputs at) {
  InputValues<Wide<T>, kPack> values;
  values.first = read<kPack>(x + at.first);
  if constexpr (is_gated(kind)) {
    values.second = read<kPack>(x + at.second);
  }
  return values;
}

template <int kPack, Activation kind, class T>
__global__ void __launch_bounds__(kThreads) forward(int64_t n, int64_t cols, const T* x, T* y) {
  each_pack<kPack>(
      n,
      [=](int64_t i) {
        const auto in = read_inputs<kPack, kind>(x, inputs_of<kind>(i, cols));
        return each_of_pack<kPack>([&](int k) { return activation<kind>(in[k]); });
      },
      [=](int64_t i, const auto& values) { write(y + i, values); });
}

template <int kPack, Activation kind, class T>
__global__ void __launch_bounds__(kThreads) backward(int64_t n, int64_t cols, const T* x, const T* dy, T* dx) {
  each_pack<kPack>(
      n,
      [=](int64_t i) {
        const auto in = read_inputs<kPack, kind>(x, inputs_of<kind>(i, cols));
        const auto d = read<kPack>(dy + i);
        return each_of_pack<kPack>([&](int k) { return activation_gradient<kind>(in[k], d.of[k]); });
      },
      [=](int64_t i, const auto& d) {
        const Inputs to = inputs_of<kind>(i, cols);
        write(dx + to.first, each_of_pack<kPack>([&](int k) { return d.of[k].first; }));
        if constexpr (is_gated(kind)) {
          write(dx + to.second, each_of_pack<kPack>([&](int k) { return d.of[k].second; }));
        }
      });
}

}  // namespace

void activation_forward(const Stream& stream, Activation kind, int64_t rows, int64_t cols, ConstTensor x, Tensor y) {
  arguments::activation_forward(kind, rows, cols, x, y);
  with_kind(kind, [&](auto k) {
    with_type(x.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      with_pack<T>(cols, {x.data, y.data}, [&](auto p) {
        constexpr int kPack = decltype(p)::value;
        launch(forward<kPack, decltype(k)::value, T>, {blocks_of(rows * cols, kBlockPacked<kPack>)}, {kThreads}, stream,
               rows * cols, cols, as<T>(x), as<T>(y));
      });
    });
  });
}

void activation_backward(const Stream& stream, Activation kind, int64_t rows, int64_t cols, ConstTensor x,
                         ConstTensor dy, Tensor dx) {
  arguments::activation_backward(kind, rows, cols, x, dy, dx);
  with_kind(kind, [&](auto k) {
    with_type(x.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      with_pack<T>(cols, {x.data, dy.data, dx.data}, [&](auto p) {
        constexpr int kPack = decltype(p)::value;
        launch(backward<kPack, decltype(k)::value, T>, {blocks_of(rows * cols, kBlockPacked<kPack>)}, {kThreads},
               stream, rows * cols, cols, as<T>(x), as<T>(dy), as<T>(dx));
      });
    });
  });
}

}  // namespace foretrain::kernels::cuda
