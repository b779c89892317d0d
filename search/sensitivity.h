// What a little more of each resource would buy: the job simulated again on a machine that has it.
#pragma once

#include <string_view>
#include <vector>

#include "plan/graph.h"
#include "plan/job.h"
#include "reports/explain.h"
#include "search/watch.h"
#include "sim/simulator.h"

namespace foretrain::search {

enum class Resource {
  peak_flops,
  memory_bandwidth,
  memory_size,
  node_bandwidth,
  network_bandwidth,
  latency,
  launch,
};
inline constexpr Resource kResources[] = {Resource::peak_flops,     Resource::memory_bandwidth,  Resource::memory_size,
                                          Resource::node_bandwidth, Resource::network_bandwidth, Resource::latency,
                                          Resource::launch};
std::string_view name(Resource r);   // "peak_flops"
std::string_view words(Resource r);  // "peak FLOP/s of the devices"
// Less of it is better.
inline bool is_cost(Resource r) {
  return r == Resource::latency || r == Resource::launch;
}

// `factor` times as much of it: datasheet figures, and what a profile states as a rate or a time of the same thing, so
// that a system with measured figures grows like one without. Latency is no part of a cluster alone
// (sim::Options::latency): the cluster stays as it is.
topologies::Cluster with_more(const topologies::Cluster& cluster, Resource resource, double factor);

using reports::ResourceGain;

inline constexpr double kMoreOfIt = 1.1, kLessOfIt = 0.9;

// All resources, in the order above, but for those that an interruption left out. `base`: the job's step as it is. The
// memory's size never changes a step by itself: search/plan_changes.h says what would then fit.
std::vector<ResourceGain> sensitivity(const plan::Job& job, const plan::PlanGraph& graph, const sim::Options& options,
                                      Time base, const Watch& watch = {});

}  // namespace foretrain::search
