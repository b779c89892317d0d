// Topologies that other tools print. What is accepted routes between all of its devices, is written, and reads back.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "topologies/import_topology.h"
#include "topologies/node_graph_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using foretrain::topologies::NodeGraph;
  NodeGraph graph;
  try {
    graph = foretrain::topologies::import_topology_text({reinterpret_cast<const char*>(data), size}, "input").graph;
    if (graph.devices > 64) {
      return 0;  // every pair is routed
    }
    foretrain::topologies::NodeRoutes routes(graph);
  } catch (const foretrain::InputError&) {
    return 0;
  }
  const std::string first = foretrain::topologies::to_json(graph).dump();
  const auto document = foretrain::JsonDocument::from_text(first, "written");
  foretrain::Mistakes mistakes;
  const auto again = foretrain::topologies::read_node_graph(foretrain::ObjectReader(document, mistakes));
  mistakes.throw_if_any();
  CHECK(foretrain::topologies::to_json(*again).dump() == first, "{} came back as {}", first,
        foretrain::topologies::to_json(*again).dump());
  return 0;
}
