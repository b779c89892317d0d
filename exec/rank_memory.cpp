#include "exec/rank_memory.h"

#include <cstring>

#include "exec/gpu.h"

namespace foretrain::exec {

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

std::byte* RankMemory::at(std::int64_t offset) const {
  const std::int64_t end = rank->role->memory.arena.value;
  return offset < end ? arena + offset : host + (offset - end);
}

bool RankMemory::is_on_gpu(const void* address) const {
  const auto* const a = static_cast<const std::byte*>(address);
  return gpu != nullptr && a >= arena && a < arena + rank->role->memory.arena.value;
}

void RankMemory::read(const void* from, void* to, std::int64_t bytes) const {
  if (is_on_gpu(from)) {
    gpu->copy(from, to, bytes);
  } else {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
}

void RankMemory::write(const void* from, void* to, std::int64_t bytes) const {
  if (is_on_gpu(to)) {
    gpu->copy(from, to, bytes);
  } else {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
}

void RankMemory::fill(std::byte* begin, std::byte* end, int byte) const {
  if (is_on_gpu(begin)) {
    gpu->fill(begin, byte, end - begin);
  } else {
    std::memset(begin, byte, static_cast<std::size_t>(end - begin));
  }
}

RankMemory host_memory_of(const RankContext& rank, std::byte* arena) {
  return {&rank, arena, arena + rank.role->memory.arena.value, nullptr};
}

void read_on_host(const RankMemory& memory, kernels::ConstTensor tensor, std::int64_t elements,
                  const std::function<void(kernels::ConstTensor)>& fn) {
  if (!memory.is_on_gpu(tensor.data)) {
    fn(tensor);
    return;
  }
  std::vector<std::byte> copy(static_cast<std::size_t>(size_bytes(tensor.dtype, elements)));
  memory.read(tensor.data, copy.data(), std::ssize(copy));
  fn({copy.data(), tensor.dtype});
}

void write_on_host(const RankMemory& memory, kernels::Tensor tensor, std::int64_t elements,
                   const std::function<void(kernels::Tensor)>& fn) {
  if (!memory.is_on_gpu(tensor.data)) {
    fn(tensor);
    return;
  }
  std::vector<std::byte> copy(static_cast<std::size_t>(size_bytes(tensor.dtype, elements)));
  fn({copy.data(), tensor.dtype});
  memory.write(copy.data(), tensor.data, std::ssize(copy));
}

}  // namespace foretrain::exec
