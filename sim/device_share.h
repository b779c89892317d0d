// Compute and communication share a device: what a communication kernel takes, and how fast either is beside the other.
//
//   blocks   = channels of the collective, one block each, as many as multiprocessors that it occupies
//   traffic  = memory_traffic · busbw;  busbw = bytes · f / seconds,  f = 2 (n-1)/n all_reduce, (n-1)/n all_gather,
//              reduce_scatter, all_to_all, 1 broadcast and messages
//   speed of a compute op  = seconds(op) / seconds_beside(op, sum of blocks and traffic)   (sim/compute_roofline.cpp)
//   speed of communication = communication_speed while any of its devices computes, else 1
// Source: the figures of a profile, each with its own; the shape: "SMs left, bandwidth left, clocks", as in Echo and
// arXiv 2507.03114; what it is held against: docs/models.md.   Holds for: NCCL's kernels, which keep their blocks until
// the collective ends.
// Known wrong: communication that finds no free multiprocessor waits for one; two collectives do not slow each other.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "plan/ops.h"
#include "sim/compute_model.h"
#include "sim/device_load.h"
#include "sim/network.h"
#include "topologies/cluster.h"
#include "topologies/profile.h"

namespace foretrain::sim {

// The profile's figures, or what its tables say of ranks with a GPU each; for a device with multiprocessors and no
// profile at all, assumed ones.
topologies::SharingFigures sharing_figures(const topologies::Cluster& cluster);

// Of a collective that takes `seconds` alone. `through_switch`: the switch reduces.
DeviceLoad collective_load(const topologies::SharingFigures& figures, plan::CollectiveKind kind, Bytes bytes,
                           const GroupPlacement& group, double seconds, bool through_switch);
// Of either end of a message.
DeviceLoad message_load(const topologies::SharingFigures& figures, Bytes bytes, bool same_node, double seconds);

// Speeds as fractions of kFullSpeed, looked up. The model must outlive it; one thread.
class ShareSpeeds {
 public:
  ShareSpeeds(const ComputeModel& compute, const topologies::SharingFigures& figures);
  std::int64_t compute(const plan::Op& op, const DeviceLoad& load);
  std::int64_t communication_beside_compute() const { return communication_; }

 private:
  const ComputeModel& compute_;
  std::int64_t communication_;
  std::unordered_map<const plan::Op*, std::vector<std::pair<DeviceLoad, std::int64_t>>> known_;
};

}  // namespace foretrain::sim
