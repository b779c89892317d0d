#include "sim/collective_price.h"

#include <algorithm>
#include <cmath>

namespace foretrain::sim {
namespace {

using collective::Kind;
using topologies::GpuGeneration;
using topologies::kLl;
using topologies::kSimple;
using topologies::NcclConstants;

constexpr double kMicro = 1e-6;
constexpr double kGiga = 1e9;
constexpr double kRingOverFabric = 0.9;  // of the ring inside a node
constexpr double kRingRamp = 4, kTreeRamp = 1;
constexpr double kLlHanded = 128 << 10, kTreeHanded = 16 << 20;  // bytes that a tree hands on whole
constexpr int kSwitchAbove = 4;                                  // ranks on a node

double tree_latency(const NcclConstants& c, const nccl::Group& g, std::size_t protocol) {
  const NcclConstants::Hops& h = c.hops.at("tree");
  const double levels = g.nodes > 1 ? std::floor(std::log2(g.nodes)) : 0;
  return (h.base[protocol] + 2 * ((g.per_node - 1) * h.nvlink[protocol] + levels * h.net[protocol])) * kMicro;
}

double ring_latency(const NcclConstants& c, const nccl::Group& g, std::size_t protocol) {
  const NcclConstants::Hops& h = c.hops.at("ring");
  const double net = g.per_node > 1 ? h.net[protocol] : c.hops.at("tree").net[protocol];
  const double steps = 2.0 * (g.ranks - 1), net_steps = 2.0 * (g.nodes - 1);
  return (h.base[protocol] + (steps - net_steps) * h.nvlink[protocol] + net_steps * net) * kMicro;
}

// (a^q + b^q)^(1/q), without overflow.
double together(double a, double b, double q) {
  const double most = std::max(a, b), least = std::min(a, b);
  return most <= 0 ? 0 : most * std::pow(1 + std::pow(least / most, q), 1 / q);
}

}  // namespace

struct CollectivePricer::Shape {
  double ll_latency = 0, latency = 0, rate = 0, ll_rate = 0, link = 0, hops = 1;
  bool tree = false, ring_over_nodes = false;
};

double CollectivePricer::node_rate(int ranks) const {
  return (e_.nvlink_ranks > 0 && ranks > e_.nvlink_ranks ? e_.beyond_rate : e_.node_rate).value;
}

double CollectivePricer::bus(const nccl::Group& g) const {
  const double node = node_rate(g.ranks), adapters = g.per_node * e_.fabric_rate.value;
  if (g.nodes == 1) {
    return node;
  }
  return g.per_node > 1 ? std::min(kRingOverFabric * node, adapters) : adapters;
}

void CollectivePricer::all_reduce(const nccl::Group& g, double bytes, Shape& s) const {
  const double n = g.ranks, bus = this->bus(g), adapters = g.per_node * e_.fabric_rate.value;
  const auto generation = static_cast<std::size_t>(e_.generation);
  const double ring = bus * n / (2 * (n - 1));
  s.ll_latency = std::min(tree_latency(newest_, g, kLl), ring_latency(newest_, g, kLl));
  s.hops = g.nodes > 1 ? std::max(1.0, std::floor(std::log2(g.nodes))) : 1;
  s.ll_rate = s.rate = ring;
  s.latency = ring_latency(newest_, g, kSimple);
  double in_switch = 0;
  if (e_.in_switch && g.per_node > kSwitchAbove && newest_.nvls_efficiency[generation] > 0) {
    const double speed = e_.generation == GpuGeneration::blackwell ? 40 * kGiga : 20 * kGiga;
    in_switch = 15 * speed * newest_.nvls_efficiency[generation] * 2 * 8 / 14;  // 16 channels, one for the switch's own
  }
  if (g.nodes == 1) {
    if (in_switch > 0) {
      s.rate = in_switch;
      s.latency = newest_.hops.at("nvls").nvlink[kSimple] * kMicro;
    }
    return;
  }
  const double tree_latency_now = tree_latency(newest_, g, kSimple);
  if (g.nodes == 2) {
    const NcclConstants::Hops& h = newest_.hops.at("nvls_tree");
    if (e_.generation >= GpuGeneration::hopper) {
      s.rate = std::min(adapters, in_switch > 0 ? in_switch : node_rate(g.ranks) * n / (2 * (n - 1)));
    }
    s.latency = in_switch > 0 ? (h.nvlink[kSimple] + 2 * h.net[kSimple]) * kMicro : tree_latency_now;
    return;
  }
  // NCCL's own comparison of ring and tree, both Simple, at this size.
  const double limit = 2 * g.per_node * newest_.tree_limit[generation][2] * kGiga;
  const double tree = std::min(bus, limit) / 2 * newest_.tree;
  const auto& table = chooser_.tree_correction[kSimple];
  const auto index = static_cast<std::size_t>(std::floor(std::log2(std::max(1.0, bytes / 64))));
  const double correction = index < table.size() ? table[index] : 1;
  const double plateau = bytes / (16 * n) >= 64 ? newest_.ring_plateau : 1;
  s.tree = tree_latency(chooser_, g, kSimple) + bytes / (tree * correction) <
           ring_latency(newest_, g, kSimple) * plateau + bytes / ring;
  s.ring_over_nodes = !s.tree;
  if (s.tree) {
    s.link = bus;
    s.rate = tree;
    s.latency = tree_latency_now;
  }
}

CollectivePricer::Shape CollectivePricer::shape(const PriceRequest& r, double bytes) const {
  const nccl::Group& g = r.group;
  const NcclConstants::Hops& h = newest_.hops.at("ring");
  const double n = g.ranks, p = g.per_node, node = node_rate(g.ranks);
  const bool fabric = g.nodes > 1;
  Shape s;
  const auto hops = [&](double inside, double outside, std::size_t protocol) {
    return (inside * h.nvlink[protocol] + outside * h.net[protocol]) * kMicro;
  };
  if (r.sendrecv) {
    s.ll_latency = h.base[kLl] * kMicro + hops(fabric ? 0 : 1, fabric ? 1 : 0, kLl);
    s.latency = h.base[kSimple] * kMicro + hops(fabric ? 0 : 1, fabric ? 1 : 0, kSimple);
    s.rate = fabric ? e_.fabric_rate.value : node;
  } else if (r.kind == Kind::all_reduce) {
    all_reduce(g, bytes, s);
    return s;
  } else if (r.kind == Kind::all_to_all) {
    // Grouped messages: over the fabric the start is theirs alone.
    s.ll_latency = (fabric ? 0 : h.base[kLl] * kMicro) + hops(p - 1, n - p, kLl);
    s.latency = (fabric ? 0 : h.base[kSimple] * kMicro) + hops(p - 1, n - p, kSimple);
    s.rate = fabric ? e_.fabric_rate.value * n / (n - p) : node * n / (n - 1);
  } else {
    s.ll_latency = h.base[kLl] * kMicro + hops(fabric ? 0 : n - 1, fabric ? n - 1 : 0, kLl);
    s.latency = h.base[kSimple] * kMicro + hops(fabric ? 0 : n - 1, fabric ? n - 1 : 0, kSimple);
    const bool shares = r.kind == Kind::all_gather || r.kind == Kind::reduce_scatter;
    s.rate = shares ? bus(g) * n / (n - 1) : bus(g);
  }
  s.ll_rate = s.rate;
  return s;
}

// Of an all_reduce.
bool CollectivePricer::nccl_takes_ll(const nccl::Group& g, double bytes) const {
  nccl::System system;
  system.generation = e_.generation;
  system.node_rate = node_rate(g.ranks);
  system.fabric_rate = e_.fabric_rate.value;
  system.channels = e_.channels;
  system.nvlink = e_.nvlink;
  system.in_switch = e_.in_switch;
  system.amd_host = e_.amd_host;
  const std::vector<nccl::Candidate> all = nccl::candidates(Kind::all_reduce, g, system, chooser_);
  return all[nccl::choose(all, Kind::all_reduce, bytes, g, system, chooser_)].protocol == kLl;
}

CollectivePrice CollectivePricer::price(const PriceRequest& request, double bytes,
                                        const topologies::CollectiveConstants& c) const {
  const Shape s = shape(request, bytes);
  const double small =
      c.ll_latency * s.ll_latency + (bytes + std::min(bytes, kLlHanded) * (s.hops - 1)) / (c.ll_rate * s.ll_rate);
  const double transfer = bytes / ((s.tree ? c.tree_efficiency.value_or(1) : c.efficiency) * s.rate);
  const double ramp = s.ring_over_nodes ? kRingRamp : s.tree ? kTreeRamp : c.ramp;
  const double large =
      together(c.latency * s.latency, transfer, ramp) + (s.tree ? s.hops * std::min(bytes, kTreeHanded) / s.link : 0);
  const bool by_table = !request.sendrecv && request.kind == Kind::all_reduce && request.group.nodes > 1;
  const bool is_small = by_table ? nccl_takes_ll(request.group, bytes) : small <= large;
  const double latency = is_small ? c.ll_latency * s.ll_latency : c.latency * s.latency;
  return {is_small ? small : large, latency, transfer, is_small, s.tree};
}

}  // namespace foretrain::sim
