// The cluster part of a job. What is accepted is written, and reads back to itself; its network, where it is not too
// large, has a route between its first and last device or says why not.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "topologies/cluster_file.h"
#include "topologies/fabric.h"
#include "topologies/network.h"

namespace {

foretrain::topologies::Cluster read(std::string_view text) {
  const auto document = foretrain::JsonDocument::from_text(text, "input");
  foretrain::Mistakes mistakes;
  foretrain::ObjectReader reader(document, mistakes);
  auto cluster = foretrain::topologies::read_cluster(reader);
  reader.finish();
  mistakes.throw_if_any();
  return cluster;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  foretrain::topologies::Cluster cluster;
  try {
    cluster = read({reinterpret_cast<const char*>(data), size});
  } catch (const foretrain::InputError&) {
    return 0;
  }
  cluster.nodes = std::max<std::int64_t>(1, cluster.nodes);  // a job fills them in
  const std::string first = foretrain::topologies::to_json(cluster).dump();
  const std::string again = foretrain::topologies::to_json(read(first)).dump();
  CHECK(again == first, "{} came back as {}", first, again);
  if (cluster.fabric != nullptr && cluster.fabric->node.devices <= 64 && cluster.nodes <= 1000) {
    try {
      const auto network = foretrain::topologies::make_network(cluster);
      foretrain::topologies::Route route;
      network->route(0, network->devices() - 1, 0, route);
      for (const auto& hop : route.hops) {
        CHECK(hop.link < network->link_count() && network->link(hop.link).capacity.value > 0, "link {}", hop.link);
      }
    } catch (const foretrain::InputError&) {
      return 0;
    }
  }
  return 0;
}
