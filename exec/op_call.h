// An op of the graph bound to a rank, a step and addresses: what a device launches.
#pragma once

#include <cstddef>
#include <vector>

#include "exec/communicator.h"
#include "exec/executor.h"
#include "kernels/tensor.h"
#include "plan/cursor.h"
#include "plan/graph.h"
#include "plan/sequence_share.h"

namespace foretrain::exec {

// What the ops of one rank need to know beside their operands. Outlives every call that points to it.
struct RankContext {
  const plan::PlanGraph* graph = nullptr;
  const plan::Role* role = nullptr;
  plan::Rank rank = 0;
  plan::Coordinates coordinates{};
  std::vector<GroupView> groups;     // by GroupId
  const DataSource* data = nullptr;  // of the run in progress

  // Of the sharded dimension an op names; 0 of 1 for kNoGroup.
  int index_in(plan::GroupId group) const {
    return group == plan::kNoGroup ? 0 : groups[static_cast<std::size_t>(group)].index;
  }
  int size_of(plan::GroupId group) const {
    return group == plan::kNoGroup ? 1 : groups[static_cast<std::size_t>(group)].size();
  }
  plan::SequenceShare share_in(plan::GroupId group, std::int64_t tokens) const {
    return {tokens, index_in(group), size_of(group)};
  }
};

RankContext rank_context(const plan::PlanGraph& graph, plan::Rank rank);

// Operands are addresses in this rank's arena with their buffer's type, in the order of Op::reads and Op::writes.
struct OpCall {
  const RankContext* rank = nullptr;
  const plan::Op* op = nullptr;
  plan::OpId id;
  plan::Binding binding;  // `step` counts from the executor's first
  std::vector<kernels::Tensor> reads, writes;
  kernels::Tensor guard;  // absent: runs always
};

// What a CPU stores and computes for an element type: tf32 is fp32.
constexpr Dtype stored_type(Dtype d) {
  return d == Dtype::tf32 ? Dtype::fp32 : d;
}

// The same tensor from `elements` on.
inline kernels::Tensor advanced(const kernels::Tensor& t, std::int64_t elements) {
  return t ? kernels::Tensor{static_cast<std::byte*>(t.data) + size_bytes(t.dtype, elements), t.dtype} : t;
}

// Binds the op a cursor stands on. `call` is reused from op to op, so that its lists need no new memory.
void bind_call(const RankContext& rank, std::byte* arena, const plan::ProgramCursor& cursor, int step, OpCall& call);

}  // namespace foretrain::exec
