#include "plan/device_memory.h"

#include <algorithm>

#include "plan/reading.h"

namespace foretrain::plan {

namespace {

// Of cores host and device are one.
Bytes held_on_machine(const Role& role, const topologies::Cluster& cluster) {
  return cluster.is_gpu ? role.memory.arena : role.memory.arena + role.memory.host;
}

// Where ranks share devices: all of them together, by host where each has memory of its own.
Bytes shared_demand(const Job& job, const PlanGraph& graph) {
  const topologies::Cluster& c = job.cluster;
  Bytes all;
  for (const Role& role : graph.roles) {
    all += Bytes{held_on_machine(role, c).value * count(graph.mesh, role.ranks)};
  }
  const Bytes cache = c.is_gpu || graph.data.kept == 0 ? Bytes{} : epoch_reads(graph, c).cache;
  return c.is_hosts() && !c.hosts_share_cores ? Bytes{(all.value + c.nodes - 1) / c.nodes} + cache
                                              : all + Bytes{cache.value * (c.is_hosts() ? c.nodes : 1)};
}

}  // namespace

std::string_view name(Verdict v) {
  return v == Verdict::fits ? "FITS" : v == Verdict::tight ? "TIGHT" : "OOM";
}

DeviceMemory device_memory(const PlanGraph& graph, const Role& role, const topologies::Cluster& cluster,
                           const HeldRules& rules) {
  DeviceMemory memory;
  memory.runtime = runtime_memory(graph, role, cluster, rules.more_communicators);
  memory.held = held_memory(role, rules, cluster.device.memory - memory.runtime.total());
  if (cluster.this_machine) {
    HeldMemory& held = memory.held;
    const Bytes all = held_on_machine(role, cluster);
    held.by_kind[static_cast<std::size_t>(HeldKind::workspace)] += all - held.allocated;
    held.allocated = held.reserved = held.needed = all;
  }
  return memory;
}

void MemoryFit::judge() {
  const auto less = [](const DeviceMemory& a, const DeviceMemory& b) { return a.needed() < b.needed(); };
  fullest = static_cast<std::size_t>(std::max_element(roles.begin(), roles.end(), less) - roles.begin());
  demand = device().needed();
  const bool has_room =
      std::all_of(roles.begin(), roles.end(), [&](const DeviceMemory& m) { return m.device_visible() <= capacity; });
  verdict = demand > capacity ? Verdict::oom : has_room ? Verdict::fits : Verdict::tight;
}

MemoryFit memory_fit(const Job& job, const PlanGraph& graph, const HeldRules& rules) {
  MemoryFit fit;
  fit.shared = job.cluster.shares_devices();
  fit.capacity = fit.shared && !job.cluster.is_gpu ? job.cluster.shared_memory : job.cluster.device.memory;
  for (const Role& role : graph.roles) {
    fit.roles.push_back(device_memory(graph, role, job.cluster, rules));
  }
  fit.judge();
  if (fit.shared) {
    fit.demand = shared_demand(job, graph);
    fit.verdict = fit.demand <= fit.capacity ? Verdict::fits : Verdict::oom;
  }
  return fit;
}

Bytes least_demand(const Job& job, const PlanGraph& graph) {
  if (job.cluster.shares_devices()) {
    return shared_demand(job, graph);
  }
  Bytes least;
  for (const Role& role : graph.roles) {
    const Bytes held = job.cluster.this_machine ? held_on_machine(role, job.cluster)
                                                : least_held(role) + runtime_memory(graph, role, job.cluster).total();
    least = std::max(least, held);
  }
  return least;
}

}  // namespace foretrain::plan
