// fp16 exists between ranks only: it is cast from and to, and summed. Part of cast and sum_in_order (kernels.h).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace foretrain::kernels {

// One of the two is fp16.
void cast_half(ConstTensor src, Tensor dst, std::int64_t n);
// All are fp16.
void sum_halves(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, std::int64_t n);

}  // namespace foretrain::kernels
