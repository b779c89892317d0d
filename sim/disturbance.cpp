#include "sim/disturbance.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace foretrain::sim {
namespace {

using Speeds = std::pair<double, double>;  // of compute, of the node's network

void slow_down(RoleModel& model, double speed) {
  for (std::vector<OpModel>& block : model.blocks) {
    for (OpModel& op : block) {
      if (op.kind == OpKind::local) {
        op.duration = Time{static_cast<std::int64_t>(std::ceil(static_cast<double>(op.duration.value) / speed))};
        op.at_work = std::clamp<std::int64_t>(std::llround(speed * static_cast<double>(kFullSpeed)), 1, kFullSpeed);
      }
    }
  }
}

std::uint64_t mixed(std::uint64_t x) {  // splitmix64's finisher, Steele et al. 2014
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<std::int32_t> add_disturbed_models(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                               const ComputeModel& compute, const MakeNetwork& make_network,
                                               std::vector<RoleModel>& models) {
  const topologies::Disturbance& d = cluster.disturbance;
  std::vector<std::int32_t> first_model;
  if (d.devices.empty() && d.nodes.empty()) {
    return first_model;
  }
  std::map<Speeds, std::int32_t> known{{{1, 1}, 0}};
  for (plan::Rank r = 0; r < graph.mesh.ranks(); ++r) {
    const Speeds speeds{speed_of(d.devices, r), speed_of(d.nodes, r / cluster.devices_per_node)};
    const auto [first, is_new] = known.try_emplace(speeds, static_cast<std::int32_t>(models.size()));
    first_model.push_back(first->second);
    if (!is_new) {
      continue;
    }
    topologies::Cluster slow = cluster;
    slow.inter.bandwidth.value *= speeds.second;
    for (RoleModel& model : model_roles(graph, slow, compute, *make_network(slow))) {
      slow_down(model, speeds.first);
      models.push_back(std::move(model));
    }
  }
  return first_model;
}

// A sum of four numbers below 2^16 has mean 131,070 and variance 4 (2^32 - 1) / 12.
Jitter::Jitter(double sigma, std::int64_t seed)
    : scale_(std::llround(sigma / std::sqrt(4294967295.0 / 3) * 0x1p40)), seed_(static_cast<std::uint64_t>(seed)) {}

Time Jitter::operator()(Time duration, plan::Rank rank, std::int64_t sequence) const {
  if (is_none() || duration.value == 0) {
    return duration;
  }
  const std::uint64_t key = mixed(seed_ + 0x9e3779b97f4a7c15u) ^ static_cast<std::uint64_t>(rank);
  const std::uint64_t bits = mixed(mixed(key) + static_cast<std::uint64_t>(sequence));
  const auto sum =
      static_cast<std::int64_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
  const Wide change = static_cast<Wide>(duration.value) * (sum - 131070) * scale_;
  return Time{std::max<std::int64_t>(1, duration.value + static_cast<std::int64_t>(change / (Wide{1} << 40)))};
}

}  // namespace foretrain::sim
