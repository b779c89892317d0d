#include "kernels/cuda/matmul.h"

#include "kernels/arguments.h"
#include "kernels/cuda/libraries.h"

namespace foretrain::kernels::cuda {

void matmul(const Stream& stream, const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
            bool accumulate) {
  arguments::matmul(s, a, b, bias, c, accumulate);
  if (s.m == 0 || s.n == 0 || s.batch == 0) {
    return;
  }
  if (stream.libraries == nullptr || !stream.libraries->matmul(stream, s, a, b, bias, c, accumulate)) {
    matmul_plain(stream, s, {}, a, b, bias, c, accumulate);
  }
}

}  // namespace foretrain::kernels::cuda
