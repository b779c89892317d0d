// Lists of overrides. What is accepted is one way that a network model takes, or refuses by name.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "sim/network.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using foretrain::sim::CollectiveOverride;
  std::vector<CollectiveOverride> overrides;
  try {
    overrides = foretrain::sim::parse_collective_overrides({reinterpret_cast<const char*>(data), size});
  } catch (const foretrain::InputError&) {
    return 0;
  }
  foretrain::topologies::Cluster cluster;
  cluster.nodes = 4;
  cluster.devices_per_node = 8;
  cluster.intra = {{100e9}, {1'000'000}};
  cluster.inter = {{10e9}, {5'000'000}};
  const auto model = foretrain::sim::make_alpha_beta(cluster, overrides);
  for (const CollectiveOverride& o : overrides) {
    for (const foretrain::sim::GroupPlacement group :
         {foretrain::sim::GroupPlacement{8, 1, 8}, {32, 4, 8}, {12, 2, 8}}) {
      try {
        const auto ways = model->candidates(o.kind, foretrain::Bytes{1 << 20}, group);
        const auto chosen = std::count_if(ways.begin(), ways.end(), [](const auto& w) { return w.chosen; });
        CHECK(chosen == 1, "{} ways are chosen for {}", chosen, foretrain::sim::collective::name(o.kind));
      } catch (const foretrain::InputError&) {
      }
    }
  }
  return 0;
}
