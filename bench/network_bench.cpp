// How long a network takes to build, and a route on it.
#include <benchmark/benchmark.h>

#include "topologies/cluster_file.h"
#include "topologies/fabric.h"
#include "topologies/network.h"

namespace {

using foretrain::topologies::Cluster;

Cluster cluster(const char* system, std::int64_t nodes, foretrain::topologies::Routing routing) {
  Cluster c = foretrain::topologies::load_system(system);
  c.nodes = nodes;
  auto fabric = *c.fabric;
  fabric.routing = routing;
  c.fabric = std::make_shared<foretrain::topologies::Fabric>(fabric);
  return c;
}

void build(benchmark::State& state, const char* system, std::int64_t nodes, foretrain::topologies::Routing routing) {
  const Cluster c = cluster(system, nodes, routing);
  for (auto _ : state) {
    benchmark::DoNotOptimize(foretrain::topologies::make_network(c));
  }
}

// Pairs far apart and near, in an order that no cache foresees.
void route(benchmark::State& state, const char* system, std::int64_t nodes, foretrain::topologies::Routing routing) {
  const auto network = foretrain::topologies::make_network(cluster(system, nodes, routing));
  foretrain::topologies::Route found;
  std::int64_t from = 0, to = 1, links = 0;
  for (auto _ : state) {
    from = (from + 7919) % network->devices();
    to = (to + 104729) % network->devices();
    network->route(from, to, 0, found);
    links += static_cast<std::int64_t>(found.hops.size());
    benchmark::DoNotOptimize(found.hops.data());
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["hops"] = static_cast<double>(links) / static_cast<double>(state.iterations());
}

using enum foretrain::topologies::Routing;
BENCHMARK_CAPTURE(build, dgx_h100_131072_sprayed, "dgx-h100", 16384, sprayed);
BENCHMARK_CAPTURE(build, dgx_h100_131072_hashed, "dgx-h100", 16384, hashed);
BENCHMARK_CAPTURE(build, gb200_nvl72_72, "gb200-nvl72", 18, sprayed);
BENCHMARK_CAPTURE(route, dgx_h100_131072_sprayed, "dgx-h100", 16384, sprayed);
BENCHMARK_CAPTURE(route, dgx_h100_131072_hashed, "dgx-h100", 16384, hashed);
BENCHMARK_CAPTURE(route, gb200_nvl72_4608, "gb200-nvl72", 1152, sprayed);
BENCHMARK_CAPTURE(route, polaris_2160_sprayed, "polaris", 540, sprayed);
BENCHMARK_CAPTURE(route, polaris_2160_hashed, "polaris", 540, hashed);

}  // namespace
