#include "kernels/cuda/matmul.h"

#include "kernels/arguments.h"
#include "kernels/cuda/libraries.h"

namespace foretrain::kernels::cuda {

void matmul(const Stream& stream, const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
            bool accumulate) {
  // tf32 is allowed here beside what the CPU takes: it is stored as fp32.
  const auto as_stored = [](auto t) {
    t.dtype = t.dtype == Dtype::tf32 ? Dtype::fp32 : t.dtype;
    return t;
  };
  arguments::matmul(s, as_stored(a), as_stored(b), as_stored(bias), as_stored(c), accumulate);
  if (s.m == 0 || s.n == 0 || s.batch == 0) {
    return;
  }
  if (stream.libraries == nullptr || !stream.libraries->matmul(stream, s, a, b, bias, c, accumulate)) {
    matmul_plain(stream, s, {}, a, b, bias, c, accumulate);
  }
}

}  // namespace foretrain::kernels::cuda
