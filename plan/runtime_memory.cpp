#include "plan/runtime_memory.h"

#include <algorithm>
#include <set>

#include "topologies/profile.h"

namespace foretrain::plan {

namespace {

constexpr std::int64_t kMiB = 1024 * 1024;
constexpr std::int64_t kContext = 300'000'000;
constexpr std::int64_t kCommunicator = 28 * kMiB;
// NCCL_BUFFSIZE; 120 elements x 640 threads x 8 steps x 8 B; 8 lines x 512 threads x 8 steps x 16 B.
constexpr std::int64_t kBuffers = 4 * kMiB + 120 * 640 * 8 * 8 + 8 * 512 * 8 * 16;
constexpr std::int64_t kDefaultChannels = 16;

std::int64_t channels(const topologies::Cluster& cluster, bool inside_node) {
  if (cluster.profile == nullptr || !cluster.profile->has_sharing) {
    return kDefaultChannels;
  }
  const auto& blocks = inside_node ? cluster.profile->sharing.node_blocks : cluster.profile->sharing.fabric_blocks;
  const auto found = blocks.find("all_reduce");
  return found == blocks.end() ? kDefaultChannels : static_cast<std::int64_t>(found->second.value);
}

bool inside_node(const std::vector<Rank>& ranks, int devices_per_node) {
  return ranks.front() / devices_per_node == ranks.back() / devices_per_node;
}

std::int64_t communicator(const topologies::Cluster& cluster, bool inside, std::int64_t connections) {
  return kCommunicator + channels(cluster, inside) * connections * kBuffers;
}

}  // namespace

RuntimeMemory runtime_memory(const PlanGraph& graph, const Role& role, const topologies::Cluster& cluster, int more) {
  if (cluster.this_machine) {
    return {};
  }
  std::set<GroupId> groups;
  std::set<StreamId> arrivals;  // one stream per neighbour and direction
  for (const Block& block : role.blocks) {
    for (const Op& op : block.ops) {
      if (const auto* collective = std::get_if<Collective>(&op.work)) {
        groups.insert(collective->group);
      } else if (const auto* exchange = std::get_if<Exchange>(&op.work)) {
        const auto arrives = [](const Message& m) { return !m.send; };
        if (std::any_of(exchange->messages.begin(), exchange->messages.end(), arrives)) {
          arrivals.insert(op.stream);
        }
      }
    }
  }
  RuntimeMemory memory;
  memory.context = {kContext};
  const Rank rank = first_rank(graph.mesh, role.ranks);
  for (const GroupId group : groups) {
    const std::vector<Rank> ranks = members(graph.mesh, graph.groups[static_cast<std::size_t>(group)], rank);
    if (ranks.size() > 1) {
      const std::int64_t tree = ranks.size() > 2 ? 2 : 1;
      memory.communicators += {communicator(cluster, inside_node(ranks, cluster.devices_per_node), 1 + tree)};
    }
  }
  if (!arrivals.empty()) {
    const bool inside = graph.mesh.ranks() <= cluster.devices_per_node;
    memory.communicators += {communicator(cluster, inside, static_cast<std::int64_t>(arrivals.size()))};
  }
  if (graph.mesh.ranks() > 1) {
    const bool inside = graph.mesh.ranks() <= cluster.devices_per_node;
    const std::int64_t tree = graph.mesh.ranks() > 2 ? 2 : 1;
    memory.communicators += {more * communicator(cluster, inside, 1 + tree)};
  }
  return memory;
}

}  // namespace foretrain::plan
