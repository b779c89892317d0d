#include "exec/op_call.h"

namespace foretrain::exec {

namespace {

kernels::Tensor tensor(const RankContext& rank, std::byte* arena, const plan::Operand& operand,
                       const plan::Binding& binding) {
  return {arena + plan::operand_offset(*rank.graph, *rank.role, operand, binding, rank.rank),
          stored_type(rank.role->buffers[static_cast<std::size_t>(operand.buffer)].dtype)};
}

}  // namespace

RankContext rank_context(const plan::PlanGraph& graph, plan::Rank rank) {
  RankContext context;
  context.graph = &graph;
  context.role = &graph.roles[static_cast<std::size_t>(plan::role_of(graph, rank))];
  context.rank = rank;
  context.coordinates = graph.mesh.coordinates(rank);
  for (const plan::Group& group : graph.groups) {
    GroupView view;
    if (plan::contains(graph.mesh, group, rank)) {
      view.members = plan::members(graph.mesh, group, rank);
      view.index = plan::index_in_group(graph.mesh, group, rank);
    }
    context.groups.push_back(std::move(view));
  }
  return context;
}

void bind_call(const RankContext& rank, std::byte* arena, const plan::ProgramCursor& cursor, int step, OpCall& call) {
  call.rank = &rank;
  call.op = &cursor.op();
  call.id = cursor.id();
  call.binding = cursor.binding();
  call.binding.step = step;
  call.reads.clear();
  for (const plan::Operand& operand : call.op->reads) {
    call.reads.push_back(tensor(rank, arena, operand, call.binding));
  }
  call.writes.clear();
  for (const plan::Operand& operand : call.op->writes) {
    call.writes.push_back(tensor(rank, arena, operand, call.binding));
  }
  call.guard = call.op->guard ? tensor(rank, arena, call.op->guard->scalar, call.binding) : kernels::Tensor{};
}

}  // namespace foretrain::exec
