// The grid over which the slowdown of compute beside communication is stated: what bench/contention_table prints and
// tests/sim/device_share_test.cpp holds to its bounds.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "plan/ops.h"
#include "sim/device_share.h"
#include "topologies/cluster_file.h"

namespace foretrain::testing {

struct Beside {
  std::string name;
  sim::DeviceLoad load;
};

// Large collectives on one node of 8 and over 16 nodes, priced by the system's network model.
inline std::vector<Beside> communication_grid(const topologies::Cluster& cluster) {
  using plan::CollectiveKind;
  const auto network = sim::make_alpha_beta(cluster);
  const topologies::SharingFigures figures = sim::sharing_figures(cluster);
  const Bytes bytes{std::int64_t{256} << 20};
  std::vector<Beside> result;
  for (const bool one_node : {true, false}) {
    const sim::GroupPlacement group = one_node ? sim::GroupPlacement{8, 1, 8} : sim::GroupPlacement{128, 16, 8};
    for (const CollectiveKind kind : {CollectiveKind::all_reduce, CollectiveKind::all_gather,
                                      CollectiveKind::reduce_scatter, CollectiveKind::all_to_all}) {
      const double seconds = network->collective(kind, bytes, group);
      const auto ways = network->candidates(sim::collective::from_plan(kind), bytes, group);
      const bool in_switch = std::any_of(
          ways.begin(), ways.end(), [](const auto& c) { return c.chosen && c.algorithm.rfind("in_switch", 0) == 0; });
      result.push_back({std::string(plan::name(kind)) + (one_node ? ", node" : ", fabric"),
                        sim::collective_load(figures, kind, bytes, group, seconds, in_switch)});
    }
  }
  return result;
}

inline plan::Op product(std::int64_t m, std::int64_t n, std::int64_t k) {
  plan::Op op;
  op.work = plan::Matmul{m, n, k, false, true, false, false, Dtype::bf16, Dtype::bf16};
  return op;
}

// Products of 1 to 16 thousand rows with the matrices of models with hidden sizes of 2 to 16 thousand, split over
// tensor parallel ranks or not.
struct Shape {
  std::int64_t m, n, k;
};
inline std::vector<Shape> matmul_grid() {
  std::vector<Shape> result;
  for (const std::int64_t m : {1024, 2048, 4096, 8192, 16384}) {
    for (const std::int64_t h : {2048, 4096, 5120, 8192, 12288, 16384}) {
      result.push_back({m, h, h});
      result.push_back({m, h / 2, h});
      result.push_back({m, 4 * h, h});
      result.push_back({m, h, h / 2});
    }
  }
  return result;
}

// Slower by this part of its speed: 1 - alone/beside.
inline double speed_lost(const sim::ComputeModel& model, const plan::Op& op, const sim::DeviceLoad& load) {
  return 1 - model.seconds(op) / model.seconds_beside(op, load);
}

}  // namespace foretrain::testing
