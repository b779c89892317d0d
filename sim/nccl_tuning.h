// NCCL's own latency table, one version of it. Source: NVIDIA/nccl 2.30.7, src/graph/tuning.cc.
#pragma once

#include <array>
#include <cstddef>

namespace foretrain::sim::nccl {

// Protocols in the order of every array below: LL, LL128, Simple.
inline constexpr std::size_t kProtocols = 3;
inline constexpr std::size_t kLl = 0, kLl128 = 1, kSimple = 2;

// Microseconds. A hop inside a node is NVLink's.
struct Latencies {
  std::array<double, kProtocols> base, node_hop, fabric_hop;
};
inline constexpr Latencies kRing{{6.6, 14.0, 8.4}, {0.6, 1.9, 3.4}, {2.7, 4.0, 14.0}};
inline constexpr Latencies kTree{{6.8, 14.0, 8.4}, {0.6, 1.25, 4.0}, {5.0, 8.5, 14.0}};
inline constexpr double kInSwitchHop = 25.0;        // NVLS
inline constexpr double kInSwitchFabricHop = 20.9;  // NVLSTree

// Share of the bandwidth that a protocol leaves.
inline constexpr std::array<double, kProtocols> kRingShare{0.5, 0.92, 1.0};
inline constexpr std::array<double, kProtocols> kTreeShareNode{0.92 / 3.8, 0.92 * 7 / 9, 0.92};
inline constexpr std::array<double, kProtocols> kTreeShareFabric{0.92 / 3.8, 0.92 * 120 / 128, 0.92};

}  // namespace foretrain::sim::nccl
