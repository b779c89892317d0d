// Collectives at flow level, whole: the network is built, every round listed, routed and simulated.
// For comparison, ASTRA-sim: ring over 1,024 at 1 GiB 13.7 s, hierarchical over 4,096 86 s.
#include <benchmark/benchmark.h>

#include "sim/collective/flow_rounds.h"
#include "topologies/cluster_file.h"
#include "topologies/network.h"

namespace {

using foretrain::Bytes;
using foretrain::sim::collective::find_algorithm;
using foretrain::sim::collective::flow_rounds;
using foretrain::sim::collective::FlowOptions;
using foretrain::sim::collective::FlowRounds;
using foretrain::sim::collective::Kind;
using foretrain::sim::collective::Layout;

void all_reduce(benchmark::State& state, const char* algorithm, int ranks, int per_node, bool fold_ranks,
                bool fold_rounds) {
  foretrain::topologies::Cluster cluster = foretrain::topologies::load_system("dgx-h100");
  FlowOptions options;
  options.fold_ranks = fold_ranks;
  options.fold_rounds = fold_rounds;
  FlowRounds result;
  for (auto _ : state) {
    cluster.nodes = ranks / per_node;
    const auto network = make_network(cluster);
    const Layout layout = Layout::packed(ranks, per_node);
    result = flow_rounds(*find_algorithm(algorithm), {Kind::all_reduce, &layout, 1}, Bytes{1 << 30}, *network,
                         cluster.devices_per_node, options);
  }
  state.counters["simulated_s"] = foretrain::seconds(result.time);
  state.counters["picoseconds"] = static_cast<double>(result.time.value);
  state.counters["rounds"] = static_cast<double>(result.rounds);
  state.counters["transfers"] = static_cast<double>(result.transfers);
  state.counters["flows"] = static_cast<double>(result.flows);
}

#define FOLDED(algorithm, ranks)                                                                \
  BENCHMARK_CAPTURE(all_reduce, algorithm##_##ranks##_folded, #algorithm, ranks, 8, true, true) \
      ->Unit(benchmark::kMillisecond)
FOLDED(ring, 1024);
FOLDED(ring, 4096);
FOLDED(ring, 65536);
FOLDED(hierarchical, 4096);
FOLDED(hierarchical, 65536);
BENCHMARK_CAPTURE(all_reduce, ring_65536_nodes_folded, "ring", 65536, 1, true, true)->Unit(benchmark::kMillisecond);

}  // namespace
