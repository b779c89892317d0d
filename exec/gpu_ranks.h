// What ranks of one execution need to live on a GPU, together or each on its own: memory, a device and a communicator.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/gpu.h"
#include "exec/gpu_communicator.h"
#include "exec/gpu_device.h"
#include "exec/gpu_peers.h"
#include "exec/processes.h"
#include "exec/rank_memory.h"

namespace foretrain::exec {

class GpuRanks {
 public:
  // All ranks of the graph, where this process is the only one; else one in each process. All processes make theirs
  // together. Throws InfeasibleError when a GPU lacks the memory, InputError when there are more ranks than processes,
  // EnvironmentError when GPUs cannot exchange.
  GpuRanks(Gpu& gpu, const plan::PlanGraph& graph, Processes& processes);

  std::unique_ptr<QueuedDevice> device(plan::Rank rank, std::function<std::string(const OpCall&)> describe);
  // Of the role's memory plan, zeroed; once for each rank.
  RankMemory memory(const RankContext& rank);

  // Every rank's next wait throws Cancelled, for good. From any thread.
  void cancel();

 private:
  Gpu& gpu_;
  EventPool events_;
  std::vector<std::unique_ptr<GpuArena>> arenas_;  // by rank
  std::unique_ptr<GpuWorld> world_;                // either
  std::unique_ptr<GpuPeers> peers_;                // or
};

}  // namespace foretrain::exec
