#include "exec/gpu_ranks.h"

#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

// "": they fit.
std::string shortage(const Gpu& gpu, const plan::PlanGraph& graph, plan::Rank first, plan::Rank count) {
  Bytes needed;
  for (plan::Rank r = first; r < first + count; ++r) {
    const plan::Role& role = graph.roles[static_cast<std::size_t>(plan::role_of(graph, r))];
    needed += role.memory.arena + Bytes{gpu.stream_workspace().value * std::ssize(role.streams)};
  }
  const Bytes free = gpu.free_memory();
  return needed <= free
             ? ""
             : fmt::format(
                   "the run needs {} for its {} on {}, which has {} left: {} are missing; a smaller "
                   "micro_batch, model or number of ranks needs less",
                   to_string(needed), count == 1 ? fmt::format("rank {}", first) : fmt::format("{} ranks", count),
                   gpu.name(), to_string(free), to_string(needed - free));
}

}  // namespace

GpuRanks::GpuRanks(Gpu& gpu, const plan::PlanGraph& graph, Processes& processes)
    : gpu_(gpu), events_(gpu), arenas_(static_cast<std::size_t>(graph.mesh.ranks())) {
  const plan::Rank ranks = graph.mesh.ranks();
  const bool are_together = processes.count() == 1;
  if (!are_together && processes.count() != ranks) {
    throw InputError(
        fmt::format("ranks share one GPU as threads of one process, or have one each in a process of their own: {} "
                    "ranks are not for "
                    "{} processes; start 1 or {}",
                    ranks, processes.count(), ranks));
  }
  const plan::Rank first = are_together ? 0 : processes.number();
  for (const std::string& why : processes.all_gather(shortage(gpu, graph, first, are_together ? ranks : 1))) {
    if (!why.empty()) {
      throw InfeasibleError(why);
    }
  }
  if (are_together) {
    world_ = std::make_unique<GpuWorld>(gpu, events_, ranks);
    return;
  }
  peers_ = std::make_unique<GpuPeers>(gpu, events_, gpu.open_collectives(), graph, first);
  peers_->join(processes.all_gather(peers_->offer()), [&] { processes.check(); });
}

std::unique_ptr<QueuedDevice> GpuRanks::device(plan::Rank rank, std::function<std::string(const OpCall&)> describe) {
  GpuCommunicator& communicator = world_ ? world_->communicator(rank) : peers_->communicator();
  return std::make_unique<GpuDevice>(gpu_, events_, communicator, std::move(describe));
}

void GpuRanks::cancel() {
  if (world_) {
    world_->cancel();
  } else {
    peers_->cancel();
  }
}

RankMemory GpuRanks::memory(const RankContext& rank) {
  std::unique_ptr<GpuArena>& arena = arenas_[static_cast<std::size_t>(rank.rank)];
  arena = std::make_unique<GpuArena>(gpu_, rank.role->memory.arena, rank.role->memory.host);
  return {&rank, arena->device(), arena->host(), &gpu_};
}

}  // namespace foretrain::exec
