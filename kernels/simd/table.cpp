#include "kernels/simd/declare.h"

namespace foretrain::kernels::FORETRAIN_ISA {

#define FORETRAIN_ADDRESS(op) .op = &FORETRAIN_ISA::op,
const Table kTable = {FORETRAIN_KERNELS(FORETRAIN_ADDRESS)};
#undef FORETRAIN_ADDRESS

}  // namespace foretrain::kernels::FORETRAIN_ISA
