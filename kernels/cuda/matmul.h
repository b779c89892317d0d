// Matrix products on a GPU: the launcher of kernels.h, with the stream first. Tensors are device memory.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

// By cuBLASLt where the stream has it and it has the product (matmul_layout.h), else by matmul_plain, to which tf32 is
// fp32.
void matmul(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
            bool accumulate);

// By cuBLASLt's epilogue where it has one for the product, else by a product and a kernel behind it.
void matmul_gelu(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias,
                 Tensor x, Tensor y);
void matmul_gelu_backward(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor x,
                          Tensor dx);

// Products that are summed before they are rounded: the next one's matrices stand that many elements further.
struct Terms {
  std::int64_t count = 1, stride_a = 0, stride_b = 0;
};
// Our own: every mix of types, in the wide type, by tiles.
void matmul_plain(const Stream& stream, const MatmulShape& shape, const Terms& terms, ConstTensor a, ConstTensor b,
                  ConstTensor bias, Tensor c, bool accumulate);

}  // namespace foretrain::kernels::cuda
