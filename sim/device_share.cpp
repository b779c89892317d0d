#include "sim/device_share.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "sim/role_model.h"

namespace foretrain::sim {
namespace {

using plan::CollectiveKind;
using topologies::Figure;
using topologies::SharingFigures;

constexpr const char* kKinds[] = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"};

// For a system without a profile: the figures of the H100, whatever the device.
SharingFigures assumed() {
  const std::string source = "assumed, not measured";
  SharingFigures s;
  for (const char* kind : kKinds) {
    s.node_blocks[kind] = s.fabric_blocks[kind] = {16, source};
    s.memory_traffic[kind] = {2, source};
  }
  s.memory_traffic["all_reduce"] = s.memory_traffic["reduce_scatter"] = {3, source};
  s.compute_clock = {0.99, source};
  s.communication_speed = {0.9, source};
  s.submit = {25e-6, source};
  return s;
}

// A block each, so that whoever communicates is known; what that does to compute the tables say (compute_measured.cpp).
SharingFigures measured(const topologies::Measured& tables) {
  const std::string source = "calibrate";
  SharingFigures s;
  double sum = 0;
  for (const topologies::OverlapSample& o : tables.overlap) {
    sum += 1 / o.communication;
  }
  s.communication_speed = {sum / static_cast<double>(tables.overlap.size()), source};
  for (const char* kind : kKinds) {
    s.node_blocks[kind] = {1, source};
  }
  s.node_blocks["message"] = {1, source};
  return s;
}

double figure(const std::map<std::string, Figure>& figures, const std::string& key) {
  const auto found = figures.find(key);
  return found == figures.end() ? 0 : found->second.value;
}

// Bytes of the bus per byte of the buffer.
double bus_factor(CollectiveKind kind, double n) {
  switch (kind) {
    case CollectiveKind::all_reduce: return 2 * (n - 1) / n;
    case CollectiveKind::all_gather:
    case CollectiveKind::reduce_scatter:
    case CollectiveKind::all_to_all: return (n - 1) / n;
    case CollectiveKind::broadcast:
    case CollectiveKind::gather:
    case CollectiveKind::distribute: break;
  }
  return 1;
}

DeviceLoad load(const SharingFigures& figures, const std::map<std::string, Figure>& blocks, const std::string& key,
                double bus_bytes, double seconds) {
  const double traffic = seconds > 0 ? figure(figures.memory_traffic, key) * bus_bytes / seconds : 0;
  return {std::llround(figure(blocks, key)), std::llround(traffic)};
}

}  // namespace

SharingFigures sharing_figures(const topologies::Cluster& cluster) {
  if (cluster.is_gpu) {
    const bool has_tables = cluster.profile != nullptr && !cluster.profile->measured.overlap.empty();
    return has_tables && !cluster.shares_devices() ? measured(cluster.profile->measured) : SharingFigures{};
  }
  if (cluster.profile != nullptr) {
    return cluster.profile->sharing;
  }
  return cluster.device.multiprocessors > 0 ? assumed() : SharingFigures{};
}

DeviceLoad collective_load(const SharingFigures& figures, CollectiveKind kind, Bytes bytes, const GroupPlacement& group,
                           double seconds, bool through_switch) {
  const auto& blocks = group.nodes == 1 ? figures.node_blocks : figures.fabric_blocks;
  std::string key(plan::name(plan::is_star(kind) ? CollectiveKind::broadcast : kind));
  if (through_switch && blocks.count(key + "_in_switch") > 0) {
    key += "_in_switch";
  }
  return load(figures, blocks, key, bus_factor(kind, group.ranks) * static_cast<double>(bytes.value), seconds);
}

DeviceLoad message_load(const SharingFigures& figures, Bytes bytes, bool same_node, double seconds) {
  return load(figures, same_node ? figures.node_blocks : figures.fabric_blocks, "message",
              static_cast<double>(bytes.value), seconds);
}

ShareSpeeds::ShareSpeeds(const ComputeModel& compute, const SharingFigures& figures)
    : compute_(compute),
      communication_(std::llround(static_cast<double>(kFullSpeed) * figures.communication_speed.value)) {}

std::int64_t ShareSpeeds::compute(const plan::Op& op, const DeviceLoad& load) {
  if (load.is_none()) {
    return kFullSpeed;
  }
  std::vector<std::pair<DeviceLoad, std::int64_t>>& speeds = known_[&op];
  const auto found = std::find_if(speeds.begin(), speeds.end(), [&](const auto& s) { return s.first == load; });
  if (found != speeds.end()) {
    return found->second;
  }
  const double alone = compute_.seconds(op);
  const double share = alone > 0 ? alone / compute_.seconds_beside(op, load) : 1;
  const auto speed = static_cast<std::int64_t>(std::floor(static_cast<double>(kFullSpeed) * share));
  speeds.emplace_back(load, std::clamp<std::int64_t>(speed, 1, kFullSpeed));
  return speeds.back().second;
}

}  // namespace foretrain::sim
