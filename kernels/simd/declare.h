// Declares every launcher, with the signature of kernels.h, in the namespace of the instruction set being compiled.
#pragma once

#include "kernels/simd/ops.h"

namespace foretrain::kernels::FORETRAIN_ISA {

#define FORETRAIN_DECLARE(op) decltype(kernels::op) op;
FORETRAIN_KERNELS(FORETRAIN_DECLARE)
#undef FORETRAIN_DECLARE

}  // namespace foretrain::kernels::FORETRAIN_ISA
