#include "kernels/cuda/matmul.h"

#include "kernels/arguments.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/libraries.h"

namespace foretrain::kernels::cuda {

void matmul(const Stream& stream, const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
            bool accumulate) {
  arguments::matmul(s, a, b, bias, c, accumulate);
  if (s.m == 0 || s.n == 0 || s.batch == 0) {
    return;
  }
  if (stream.libraries == nullptr || !stream.libraries->matmul(stream, s, a, b, bias, c, accumulate, {})) {
    matmul_plain(stream, s, {}, a, b, bias, c, accumulate);
  }
}

void matmul_gelu(const Stream& stream, const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor x,
                 Tensor y) {
  arguments::matmul_gelu(s, a, b, bias, x, y);
  if (s.m == 0 || s.n == 0) {
    return;
  }
  if (stream.libraries == nullptr ||
      !stream.libraries->matmul(stream, s, a, b, bias, y, false, {Epilogue::gelu, x.data})) {
    matmul(stream, s, a, b, bias, x, false);
    activation_forward(stream, Activation::gelu, s.m, s.n, x, y);
  }
}

void matmul_gelu_backward(const Stream& stream, const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor x,
                          Tensor dx) {
  arguments::matmul_gelu_backward(s, a, b, x, dx);
  if (s.m == 0 || s.n == 0) {
    return;
  }
  if (stream.libraries == nullptr ||
      !stream.libraries->matmul(stream, s, a, b, {}, dx, false, {Epilogue::gelu_backward, const_cast<void*>(x.data)})) {
    matmul(stream, s, a, b, {}, dx, false);
    activation_backward(stream, Activation::gelu, s.m, s.n, x, dx, dx);
  }
}

}  // namespace foretrain::kernels::cuda
