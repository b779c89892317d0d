// Products per expert in bf16 on tensor cores (grouped_tensor.cu): what grouped.cu's launchers, of the same names less
// the first word, do with it. REQUIRES: checked arguments.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

void tensor_grouped_forward(const Stream& stream, const GroupedShape& shape, const std::int32_t* offsets, ConstTensor x,
                            ConstTensor w, Tensor y);
void tensor_grouped_backward_input(const Stream& stream, const GroupedShape& shape, const std::int32_t* offsets,
                                   ConstTensor dy, ConstTensor w, Tensor dx);
void tensor_grouped_backward_weight(const Stream& stream, const GroupedShape& shape, const std::int32_t* offsets,
                                    ConstTensor dy, ConstTensor x, Tensor dw);

}  // namespace foretrain::kernels::cuda
