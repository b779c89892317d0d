#include "exec/gpu_ranks.h"

#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

void check_memory(const Gpu& gpu, const plan::PlanGraph& graph) {
  Bytes needed;
  for (plan::Rank r = 0; r < graph.mesh.ranks(); ++r) {
    const plan::Role& role = graph.roles[static_cast<std::size_t>(plan::role_of(graph, r))];
    needed += role.memory.arena + Bytes{gpu.stream_workspace().value * std::ssize(role.streams)};
  }
  const Bytes free = gpu.free_memory();
  if (needed > free) {
    throw InfeasibleError(fmt::format(
        "the run needs {} for its {} ranks on {}, which has {} left: {} are missing; a smaller micro_batch, "
        "model or number of ranks needs less",
        to_string(needed), graph.mesh.ranks(), gpu.name(), to_string(free), to_string(needed - free)));
  }
}

}  // namespace

GpuRanks::GpuRanks(Gpu& gpu, const plan::PlanGraph& graph, const Processes& processes)
    : gpu_(gpu),
      events_(gpu),
      arenas_(static_cast<std::size_t>(graph.mesh.ranks())),
      world_(gpu, events_, graph.mesh.ranks()) {
  if (processes.count() > 1) {
    throw InputError(
        fmt::format("ranks on a GPU are threads of one process in this version, and {} processes were started; start "
                    "one",
                    processes.count()));
  }
  check_memory(gpu, graph);
}

std::unique_ptr<QueuedDevice> GpuRanks::device(plan::Rank rank, std::function<std::string(const OpCall&)> describe) {
  return std::make_unique<GpuDevice>(gpu_, events_, world_.communicator(rank), std::move(describe));
}

RankMemory GpuRanks::memory(const RankContext& rank) {
  std::unique_ptr<GpuArena>& arena = arenas_[static_cast<std::size_t>(rank.rank)];
  arena = std::make_unique<GpuArena>(gpu_, rank.role->memory.arena, rank.role->memory.host);
  return {&rank, arena->device(), arena->host(), &gpu_};
}

}  // namespace foretrain::exec
