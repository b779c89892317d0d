#include "search/sensitivity.h"

#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "topologies/fabric.h"
#include "topologies/network.h"
#include "topologies/profile.h"

namespace foretrain::search {

namespace {

using topologies::Cluster;
using topologies::Fabric;
using topologies::Profile;

template <class Samples>
void quicken(Samples& samples, double factor) {
  for (auto& sample : samples) {
    sample.seconds /= factor;
    if constexpr (requires { sample.cached_seconds; }) {
      sample.cached_seconds /= factor;
    }
  }
}

// The cluster's profile, its own to change.
template <class Change>
void change_profile(Cluster& cluster, const Change& change) {
  if (cluster.profile != nullptr) {
    auto profile = std::make_shared<Profile>(*cluster.profile);
    change(*profile);
    cluster.profile = std::move(profile);
  }
}

template <class Change>
void change_fabric(Cluster& cluster, const Change& change) {
  if (cluster.fabric != nullptr) {
    auto fabric = std::make_shared<Fabric>(*cluster.fabric);
    change(*fabric);
    cluster.fabric = std::move(fabric);
  }
}

void widen_node(topologies::NodeShape& node, double factor) {
  node.bandwidth.value *= factor;
  if (node.pcie != nullptr) {
    auto pcie = std::make_shared<topologies::PcieTree>(*node.pcie);
    pcie->bandwidth.value *= factor;
    pcie->socket_bandwidth.value *= factor;
    node.pcie = std::move(pcie);
  }
  if (node.graph != nullptr) {
    auto graph = std::make_shared<topologies::NodeGraph>(*node.graph);
    for (topologies::LinkClass& link : graph->classes) {
      link.capacity.value *= factor;
    }
    node.graph = std::move(graph);
  }
}

void widen_network(Fabric& fabric, double factor) {
  fabric.node.adapter_bandwidth.value *= factor;
  if (fabric.node.graph != nullptr) {
    auto graph = std::make_shared<topologies::NodeGraph>(*fabric.node.graph);
    graph->adapter_bandwidth.value *= factor;
    fabric.node.graph = std::move(graph);
  }
  std::visit(
      [factor](auto& network) {
        using Network = std::decay_t<decltype(network)>;
        if constexpr (std::is_same_v<Network, topologies::FatTree>) {
          network.cable.value *= factor;
        } else if constexpr (std::is_same_v<Network, topologies::Dragonfly>) {
          network.local_bandwidth.value *= factor;
          network.global_bandwidth.value *= factor;
        } else if constexpr (std::is_same_v<Network, topologies::Torus>) {
          network.bandwidth.value *= factor;
        }
      },
      fabric.network);
  fabric.sites.bandwidth.value *= factor;
}

// NCCL's small protocol is limited by its processors on one node, by the network on several.
void raise_ll_limit(Profile& profile, bool one_node, double factor) {
  for (auto& [where, limit] : profile.network.ll_limit) {
    if ((where == "one_node") == one_node) {
      limit.value *= factor;
    }
  }
}

// Why more of it changes nothing, where that can be said.
std::string why_not(Resource resource, const plan::Job& job) {
  const Cluster& c = job.cluster;
  const std::int64_t ranks = job.strategy.ranks();
  switch (resource) {
    case Resource::memory_size: return "a step takes as long with more memory";
    case Resource::node_bandwidth:
      return ranks == 1 ? "one rank talks to nobody" : "nothing that the step waits for is limited by it";
    case Resource::network_bandwidth:
      return ranks <= topologies::devices_per_unit(c) ? "all ranks are inside one node"
                                                      : "nothing that the step waits for is limited by it";
    case Resource::launch: return "no launch overhead is known of this device, or none is waited for";
    default: return "nothing that the step waits for is limited by it";
  }
}

}  // namespace

std::string_view name(Resource r) {
  switch (r) {
    case Resource::peak_flops: return "peak_flops";
    case Resource::memory_bandwidth: return "memory_bandwidth";
    case Resource::memory_size: return "memory_size";
    case Resource::node_bandwidth: return "node_bandwidth";
    case Resource::network_bandwidth: return "network_bandwidth";
    case Resource::latency: return "latency";
    case Resource::launch: return "launch";
  }
  return "";
}

std::string_view words(Resource r) {
  switch (r) {
    case Resource::peak_flops: return "peak FLOP/s";
    case Resource::memory_bandwidth: return "memory bandwidth";
    case Resource::memory_size: return "memory size";
    case Resource::node_bandwidth: return "bandwidth in the node";
    case Resource::network_bandwidth: return "network bandwidth";
    case Resource::latency: return "latency of communication";
    case Resource::launch: return "launch overhead of an op";
  }
  return "";
}

Cluster with_more(const Cluster& cluster, Resource resource, double factor) {
  Cluster c = cluster;
  switch (resource) {
    case Resource::peak_flops:
      for (auto& [dtype, rate] : c.device.peak) {
        rate.value *= factor;
      }
      change_profile(c, [factor](Profile& p) {
        quicken(p.measured.matmul, factor);
        quicken(p.measured.attention, factor);
      });
      break;
    case Resource::memory_bandwidth:
      c.device.memory_bandwidth.value *= factor;
      change_profile(c, [factor](Profile& p) { quicken(p.measured.memory, factor); });
      break;
    case Resource::memory_size:
      c.device.memory.value = static_cast<std::int64_t>(static_cast<double>(c.device.memory.value) * factor);
      c.shared_memory.value = static_cast<std::int64_t>(static_cast<double>(c.shared_memory.value) * factor);
      break;
    case Resource::node_bandwidth:
      c.intra.bandwidth.value *= factor;
      change_profile(c, [factor](Profile& p) {
        for (auto& [kind, busbw] : p.network.node_busbw) {
          busbw.value *= factor;
        }
        raise_ll_limit(p, /*one_node=*/true, factor);
        quicken(p.measured.collectives, factor);
        quicken(p.measured.exchanges, factor);
      });
      change_fabric(c, [factor](Fabric& f) { widen_node(f.node, factor); });
      break;
    case Resource::network_bandwidth:
      c.inter.bandwidth.value *= factor;
      change_profile(c, [factor](Profile& p) { raise_ll_limit(p, /*one_node=*/false, factor); });
      change_fabric(c, [factor](Fabric& f) { widen_network(f, factor); });
      break;
    case Resource::latency: break;
    case Resource::launch:
      change_profile(c, [factor](Profile& p) {
        p.roofline.launch.value *= factor;
        p.sharing.submit.value *= factor;
        p.measured.dispatch_seconds *= factor;
        p.measured.submit_seconds *= factor;
        p.measured.event_seconds *= factor;
      });
      break;
  }
  return c;
}

std::vector<ResourceGain> sensitivity(const plan::Job& job, const plan::PlanGraph& graph, const sim::Options& options,
                                      Time base, const Watch& watch) {
  std::vector<ResourceGain> gains(std::size(kResources));
  in_parallel(gains.size(), watch, [&](std::size_t i) {
    const Resource resource = kResources[i];
    ResourceGain g;
    g.name = name(resource);
    g.words = words(resource);
    g.factor = is_cost(resource) ? kLessOfIt : kMoreOfIt;
    g.step_time = base;
    if (resource != Resource::memory_size) {
      sim::Options changed = options;
      changed.latency *= resource == Resource::latency ? g.factor : 1;
      g.step_time = sim::simulate(graph, with_more(job.cluster, resource, g.factor), changed).step_time;
    }
    g.gain = seconds(base - g.step_time) / seconds(base);
    g.why = g.step_time == base ? why_not(resource, job) : "";
    gains[i] = std::move(g);
  });
  std::erase_if(gains, [](const ResourceGain& g) { return g.name.empty(); });
  return gains;
}

}  // namespace foretrain::search
