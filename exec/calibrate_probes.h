// Single probes that several phases of calibrate take.
#pragma once

#include "exec/calibrate_program.h"

namespace foretrain::exec {

// What an op of this work reads and writes.
Bytes touched(const plan::Work& work);

// y = x W^T on square matrices of fp32.
Probe square_matmul(std::int64_t extent);
// Of fp32.
Probe accumulate(std::int64_t elements);
// Of all ranks of the program, in fp32. `tag`: its own.
Probe collective(plan::CollectiveKind kind, std::int64_t elements, int ranks, std::int32_t tag);

}  // namespace foretrain::exec
