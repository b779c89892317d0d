// Kernels of context parallelism: which rows of which rank's keys a rank's share attends to, and how rows lie between
// shares of sequences and whole ones.
#pragma once

#include "exec/op_call.h"
#include "kernels/launchers.h"

namespace foretrain::exec {

void ring_attention(const kernels::Launchers& launch, const OpCall& call, const plan::RingAttention& op);
void reshard(const kernels::Launchers& launch, const OpCall& call, const plan::Reshard& op);

}  // namespace foretrain::exec
