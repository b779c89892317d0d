// Memory of a device in three totals, and whether a job fits:
//
//   allocated        tensors at the peak                                 plan/held_memory.h
//   reserved         what the caching allocator took for them           plan/held_memory.h, caching_allocator.h
//   device-visible   reserved, the CUDA context and NCCL's buffers       plan/runtime_memory.h
//
// FITS: the device-visible total is within the device's memory. TIGHT: only when the allocator gives cached segments
// back, which costs time. OOM: what is left then is still too much, be it tensors or the fragments between them. On
// this machine the executor allocates the planned arena and nothing else: all three totals are the arena, and the
// arenas of all ranks have to go into the memory that they share; it fits or not.
#pragma once

#include <string_view>
#include <vector>

#include "plan/held_memory.h"
#include "plan/job.h"
#include "plan/runtime_memory.h"

namespace foretrain::plan {

struct DeviceMemory {
  HeldMemory held;
  RuntimeMemory runtime;
  Bytes device_visible() const { return held.reserved + runtime.total(); }
  // With all given back that the allocator can.
  Bytes needed() const { return held.needed + runtime.total(); }
};
DeviceMemory device_memory(const PlanGraph& graph, const Role& role, const topologies::Cluster& cluster,
                           const HeldRules& rules = {});

enum class Verdict : std::uint8_t { fits, tight, oom };
std::string_view name(Verdict v);  // "FITS", "TIGHT", "OOM"

struct MemoryFit {
  std::vector<DeviceMemory> roles;
  std::size_t fullest = 0;  // role that needs most; the first of equals
  // What has to go into `capacity`: needed() by the fullest role; all ranks' arenas together where they share it.
  Bytes demand, capacity;
  bool shared = false;
  Verdict verdict{};
  bool fits() const { return verdict != Verdict::oom; }
  Bytes missing() const { return demand > capacity ? demand - capacity : Bytes{}; }
  const DeviceMemory& device() const { return roles[fullest]; }
  // From `roles` and `capacity`, where nothing is shared: which is fullest, what it demands, the verdict.
  void judge();
};
// REQUIRES: a graph with a role, built from the job.
MemoryFit memory_fit(const Job& job, const PlanGraph& graph, const HeldRules& rules = {});
// Never more than memory_fit(job, graph).demand, and found many times sooner: what it says does not fit does not.
Bytes least_demand(const Job& job, const PlanGraph& graph);

}  // namespace foretrain::plan
