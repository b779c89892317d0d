// What the runtime holds on a device beside a program's tensors: nvidia-smi shows it, the allocator does not.
//
//   context       code and stacks of the CUDA context: 300 MB where kernels are loaded when first used (CUDA 11.7 and
//                 later), 1 GB before (github:pytorch/pytorch issue 107667)
//   communicator  28 MiB + channels x connections x (4 MiB + 4.69 MiB + 0.5 MiB): one buffer per protocol (Simple,
//                 LL128, LL; NCCL's defaults in src/init.cc) and connection of a channel. Connections: one of the ring;
//                 of the tree one per neighbour inside a node, one with two ranks. The 28 MiB are what is left of the
//                 688 MiB that a communicator of more than two A100s with 24 channels takes (github:NVIDIA/nccl issue
//                 964, which measured 544 MiB for two, where this says 469). Neighbours in the pipeline share one
//                 communicator, with a connection for each kind of message that arrives: assumed.
// Channels: the multiprocessors that the cluster's profile says a collective takes, one each.
#pragma once

#include "plan/graph.h"
#include "topologies/cluster.h"

namespace foretrain::plan {

struct RuntimeMemory {
  Bytes context, communicators;
  Bytes total() const { return context + communicators; }
};

// Of each rank of the role; `more`: communicators over all ranks, or as many nodes, that no op of the plan uses.
// Nothing on this machine, whose ranks are threads.
RuntimeMemory runtime_memory(const PlanGraph& graph, const Role& role, const topologies::Cluster& cluster,
                             int more = 0);

}  // namespace foretrain::plan
