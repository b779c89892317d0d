#include "exec/op_call.h"

namespace foretrain::exec {

namespace {

kernels::Tensor tensor(const RankMemory& memory, const plan::Operand& operand, const plan::Binding& binding) {
  const RankContext& rank = *memory.rank;
  return {memory.at(plan::operand_offset(*rank.graph, *rank.role, operand, binding, rank.rank)),
          kernels::stored_type(rank.role->buffers[static_cast<std::size_t>(operand.buffer)].dtype)};
}

}  // namespace

void bind_call(const RankMemory& memory, const plan::ProgramCursor& cursor, int step, OpCall& call) {
  call.rank = memory.rank;
  call.op = &cursor.op();
  call.id = cursor.id();
  call.binding = cursor.binding();
  call.binding.step = step;
  call.reads.clear();
  for (const plan::Operand& operand : call.op->reads) {
    call.reads.push_back(tensor(memory, operand, call.binding));
  }
  call.writes.clear();
  for (const plan::Operand& operand : call.op->writes) {
    call.writes.push_back(tensor(memory, operand, call.binding));
  }
  call.guard = call.op->guard ? tensor(memory, call.op->guard->scalar, call.binding) : kernels::Tensor{};
}

}  // namespace foretrain::exec
