#include "sim/collective/lock_step.h"

#include <algorithm>

#include "sim/collective/flow_rounds.h"
#include "topologies/network.h"

namespace foretrain::sim::collective {
namespace {

constexpr std::int64_t kMostTransfers = 20'000'000;

// The fewest that are best: pieces cost rounds.
int best_pieces(const Algorithm& algorithm, Kind kind, const Layout& layout, double bytes, const Fabric& fabric) {
  constexpr int kMostPieces = 256;
  int best = 1;
  double least = algorithm.seconds({kind, &layout, 1}, bytes, fabric);
  for (int pieces = 2; pieces <= kMostPieces; pieces *= 2) {
    const double seconds = algorithm.seconds({kind, &layout, pieces}, bytes, fabric);
    if (seconds < least) {
      best = pieces;
      least = seconds;
    }
  }
  return best;
}

// Of the rounds that differ: each rank's with all others, or with a few on every level of a tree.
std::int64_t most_transfers(const Algorithm& algorithm, const Request& request) {
  const std::int64_t n = request.layout->ranks();
  if (request.kind == Kind::all_to_all) {
    return n * n;
  }
  std::int64_t rounds = 0;
  for (int i = 0; i < algorithm.shape(request).steps; ++i) {
    rounds += algorithm.same_round(request, i) == i ? 1 : 0;
  }
  return rounds * n * (2 * request.layout->most_on_node() + 2);
}

}  // namespace

std::vector<LockStep> lock_step(const topologies::Cluster& cluster, Kind kind, Bytes bytes, const Layout& layout) {
  topologies::Cluster part = cluster;
  const int per_unit = topologies::devices_per_unit(cluster);
  part.nodes = std::int64_t{layout.nodes()} * (per_unit / cluster.devices_per_node);
  const auto network = topologies::make_network(part);
  const Fabric fabric{cluster.intra.bandwidth.value, cluster.inter.bandwidth.value, seconds(cluster.intra.latency),
                      seconds(cluster.inter.latency), 1};
  const auto size = static_cast<double>(bytes.value);
  std::vector<LockStep> all;
  for (const auto& algorithm : algorithms()) {
    const std::vector<Kind> kinds = algorithm->kinds();
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
      continue;
    }
    LockStep& way = all.emplace_back();
    way.algorithm = algorithm->name();
    way.refusal = refusal(*algorithm, kind, layout);
    if (!way.refusal.empty()) {
      continue;
    }
    way.refusal = flow_refusal(*algorithm, layout, *network, per_unit);
    if (!way.refusal.empty()) {
      continue;
    }
    way.pieces = best_pieces(*algorithm, kind, layout, size, fabric);
    const Request request{kind, &layout, way.pieces};
    if (most_transfers(*algorithm, request) > kMostTransfers) {
      way.refusal = "its rounds have too many transfers to list";
      continue;
    }
    const FlowRounds flows = flow_rounds(*algorithm, request, bytes, *network, per_unit);
    way.full_bisection = algorithm->seconds(request, size, fabric);
    way.routed = seconds(flows.time);
    way.rounds = flows.rounds;
    way.transfers = flows.transfers;
    way.flows = flows.flows;
  }
  return all;
}

}  // namespace foretrain::sim::collective
