// What ranks of one execution need to live on a GPU together: memory, a device and a communicator each.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/gpu.h"
#include "exec/gpu_communicator.h"
#include "exec/gpu_device.h"
#include "exec/processes.h"
#include "exec/rank_memory.h"

namespace foretrain::exec {

class GpuRanks {
 public:
  // All ranks of the graph, in this process. Throws InfeasibleError when the GPU lacks the memory, InputError when
  // there are other processes.
  GpuRanks(Gpu& gpu, const plan::PlanGraph& graph, const Processes& processes);

  std::unique_ptr<QueuedDevice> device(plan::Rank rank, std::function<std::string(const OpCall&)> describe);
  // Of the role's memory plan, zeroed; once for each rank.
  RankMemory memory(const RankContext& rank);

  // Every rank's next wait throws Cancelled, for good. From any thread.
  void cancel() { world_.cancel(); }

 private:
  Gpu& gpu_;
  EventPool events_;
  std::vector<std::unique_ptr<GpuArena>> arenas_;  // by rank
  GpuWorld world_;
};

}  // namespace foretrain::exec
