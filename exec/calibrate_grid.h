// What calibrate measures of one rank: fixed grids of ops, the same on every machine of a kind.
#pragma once

#include <vector>

#include "exec/calibrate_program.h"
#include "exec/calibrate_scale.h"

namespace foretrain::exec {

// Matrix products as training uses them: y = x W^T, dx = dy W, dW += dy^T x, over extents that double.
std::vector<Probe> matmul_grid(const CalibrateScale& scale);
// Every step of flash-like and unfused attention over sequence length and head size.
std::vector<Probe> attention_grid(const CalibrateScale& scale);
// Every kind of memory-bound op (plan::cost_kind) over bytes. Ops over buckets take families from `program`.
std::vector<Probe> memory_grid(const CalibrateScale& scale, ProbeProgram& program);

}  // namespace foretrain::exec
