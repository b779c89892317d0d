// Ops over a bucket of parameters: squared norms per tensor, and the optimizer's step.
#pragma once

#include "exec/op_call.h"
#include "kernels/launchers.h"

namespace foretrain::exec {

// norms[tensor] = sum of squares of what this rank counts of the tensor, pieces in shard order.
void squared_norms(const kernels::Launchers& launch, const OpCall& call, const plan::SquaredNorm& op);

void optimizer_step(const kernels::Launchers& launch, const OpCall& call, const plan::OptimizerStep& op);

void outer_step(const kernels::Launchers& launch, const OpCall& call, const plan::OuterStep& op);

// LAMB's first half.
void lamb_update(const kernels::Launchers& launch, const OpCall& call, const plan::LambUpdate& op);

// The copy of its family's layers that a bucket op starts at; 0 for a family without layers.
std::int32_t first_copy(const OpCall& call, const plan::Bucket& bucket);

}  // namespace foretrain::exec
