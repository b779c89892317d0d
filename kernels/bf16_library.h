// A library that multiplies bf16 with the processor's matrix units: oneDNN, in a module of its own, so that a program
// which never multiplies bf16, or runs on a processor without the units, does not load it.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace foretrain::kernels {

// As kernels::matmul, on fp32 or bf16 operands. False, and nothing is done, for a product that the library does not
// take.
using LibraryMatmul = bool (*)(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
                               bool accumulate);

struct Bf16Library {
  LibraryMatmul matmul = nullptr;  // nullptr: none; bf16 is widened and multiplied as fp32
  std::string description;         // what it is, or why there is none
};

// Opened on the first call, once per process.
const Bf16Library& bf16_library();

// The module's product without asking what the processor has; also multiplies fp32. For tests. nullptr: no module, and
// `why` says so.
LibraryMatmul load_onednn_matmul(std::string* why);

}  // namespace foretrain::kernels
