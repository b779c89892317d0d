#include "sim/system_price.h"

#include <algorithm>
#include <iterator>

#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using collective::Kind;
using topologies::NetworkEnvironment;
using topologies::newest_nccl;

// What NCCL's ring makes of a device's NVLink: 240 of 300 GB/s, 360 of 450, 720 of 900 (the environments' sources).
constexpr double kRingOfNvlink = 0.8;

std::vector<NetworkEnvironment> of_system(const std::string& system,
                                          std::vector<std::string> NetworkEnvironment::*systems) {
  std::vector<NetworkEnvironment> result;
  const std::vector<NetworkEnvironment>& all = topologies::network_environments();
  std::copy_if(all.begin(), all.end(), std::back_inserter(result), [&](const auto& e) {
    return std::find((e.*systems).begin(), (e.*systems).end(), system) != (e.*systems).end();
  });
  return result;
}

}  // namespace

SystemPricer::SystemPricer(const topologies::Cluster& cluster) {
  const topologies::Profile* profile = cluster.profile.get();
  if (profile != nullptr && profile->has_network && !profile->network.environments_prevail) {
    return;
  }
  node_ = of_system(cluster.name, &NetworkEnvironment::node_systems);
  fabric_ = of_system(cluster.name, &NetworkEnvironment::fabric_systems);
  for (std::vector<NetworkEnvironment>* side : {&node_, &fabric_}) {
    for (NetworkEnvironment& e : *side) {
      e.node_rate.value = kRingOfNvlink * cluster.intra.bandwidth.value;
      e.fabric_rate = cluster.inter.bandwidth;
    }
  }
}

std::optional<CollectivePrice> SystemPricer::price(const std::string& word, double bytes,
                                                   const GroupPlacement& group) const {
  if (group.fewest != group.per_node) {
    return std::nullopt;  // nobody measured uneven nodes
  }
  std::vector<std::string> words{word};
  if (word == "all_gather" || word == "reduce_scatter") {
    words.emplace_back(word == "all_gather" ? "reduce_scatter" : "all_gather");
  }
  for (const std::string& measured : words) {
    for (const NetworkEnvironment& e : group.nodes == 1 ? node_ : fabric_) {
      const auto& table = group.nodes == 1 ? e.node : e.fabric;
      const auto found = table.find(measured);
      // Two nodes exchange; what trees and rings over more of them reach, they do not tell.
      const bool told = word != "all_reduce" || group.nodes <= 2;
      if (found != table.end() && (told || found->second.tree_efficiency)) {
        PriceRequest request;
        request.sendrecv = word == "sendrecv";
        request.kind = request.sendrecv ? Kind::all_reduce : collective::kind_from_name(word);
        request.group = {group.ranks, group.nodes, group.per_node};
        return CollectivePricer(e, newest_nccl(), newest_nccl()).price(request, bytes, found->second);
      }
    }
  }
  return std::nullopt;
}

std::optional<CollectivePrice> SystemPricer::collective(Kind kind, double bytes, const GroupPlacement& group) const {
  std::optional<CollectivePrice> result = price(std::string(collective::name(kind)), bytes, group);
  if (result) {
    const bool tree = kind == Kind::all_reduce && (result->tree || result->small || group.nodes == 2);
    const char* way = tree ? "tree" : kind == Kind::all_to_all ? "direct" : "ring";
    const double extra = extra_seconds(kind, way, group.extra, group.nodes);
    result->seconds += extra;
    result->latency += extra;
  }
  return result;
}

std::optional<CollectivePrice> SystemPricer::message(double bytes, bool same_node) const {
  return price("sendrecv", bytes, same_node ? GroupPlacement{2, 1, 2} : GroupPlacement{2, 2, 1});
}

}  // namespace foretrain::sim
