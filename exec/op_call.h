// An op of the graph bound to a rank, a step and addresses: what a device launches.
#pragma once

#include <cstddef>
#include <vector>

#include "exec/rank_memory.h"
#include "kernels/tensor.h"
#include "plan/cursor.h"
#include "plan/graph.h"

namespace foretrain::exec {

// Operands are addresses in this rank's memory with their buffer's type, in the order of Op::reads and Op::writes.
struct OpCall {
  const RankContext* rank = nullptr;
  const plan::Op* op = nullptr;
  plan::OpId id;
  plan::Binding binding;  // `step` counts from the executor's first
  std::vector<kernels::Tensor> reads, writes;
  kernels::Tensor guard;     // absent: runs always
  std::int32_t sender = -1;  // of a take that is over: whom from
};

// Binds the op a cursor stands on. `call` is reused from op to op, so that its lists need no new memory.
void bind_call(const RankMemory& memory, const plan::ProgramCursor& cursor, int step, OpCall& call);

}  // namespace foretrain::exec
