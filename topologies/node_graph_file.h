// A node's graph as JSON, where no few numbers describe it: what an importer found.
//   { "adapters": ["NIC 0"], "links": [ { "between": ["GPU 0", "NVSwitch 0"], "kind": "nvlink x12", "cables": 12,
//     "bandwidth": "300 GB/s", "latency": "3.4 us", "latency_back": "0 us" } ] }
// Both directions of a link have the bandwidth; latency_back is latency where it is not given. Vertices are those that
// links name, each kind counted from 0: GPU, memory, NVSwitch, PCIe switch, CPU, NIC.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "topologies/node_graph.h"

namespace foretrain::topologies {

// Records mistakes, disconnected devices among them, and then returns null. adapter_bandwidth is left 0.
std::shared_ptr<NodeGraph> read_node_graph(ObjectReader reader);
nlohmann::ordered_json to_json(const NodeGraph& graph);

}  // namespace foretrain::topologies
