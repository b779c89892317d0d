// Values coded in fewer bytes (base/code.h), with error feedback: what a code loses is added to the next values.
// Under the rules of kernels.h. The definition of each result is kernels/compression.cpp.
#pragma once

#include <cstdint>

#include "base/code.h"
#include "kernels/tensor.h"

namespace foretrain::kernels {

// v = x + residual; `code` is v coded; residual = v - what the code says. x [elements] T; residual [elements] of the
// code's dtype, W.
void encode(const Code& code, ConstTensor x, Tensor residual, void* coded);
// x = the sum of `parts` codes, one behind the other, in their order: of int8 in W, rounded once; of top_k each sum
// rounded to T.
void decode(const Code& code, std::int64_t parts, const void* coded, Tensor x);

}  // namespace foretrain::kernels
