#include "topologies/node_shapes.h"

#include <array>

#include "base/error.h"

namespace foretrain::topologies {

namespace {

// Links between devices i and j of a quad of the hybrid cube mesh, and from each to its twin in the other quad; six per
// device. `nvidia-smi topo -m` of a DGX-1 V100 shows the same.
constexpr std::array<std::array<int, 4>, 4> kQuad{{{0, 1, 1, 2}, {1, 0, 2, 1}, {1, 2, 0, 2}, {2, 1, 2, 0}}};
constexpr std::array<int, 4> kAcross{2, 2, 1, 1};

int links_between(const NodeShape& shape, int i, int j) {
  switch (shape.kind) {
    case NodeKind::all_to_all: return shape.links_per_pair;
    case NodeKind::pairs: return i / 2 == j / 2 ? shape.links_per_pair : 0;
    case NodeKind::hybrid_cube_mesh:
      if (i / 4 == j / 4) {
        return kQuad[static_cast<std::size_t>(i % 4)][static_cast<std::size_t>(j % 4)];
      }
      return i % 4 == j % 4 ? kAcross[static_cast<std::size_t>(i % 4)] : 0;
    default: return 0;
  }
}

void add_mesh(NodeGraph& graph, const NodeShape& shape) {
  for (int i = 0; i < shape.devices; ++i) {
    for (int j = i + 1; j < shape.devices; ++j) {
      if (const int links = links_between(shape, i, j); links > 0) {
        const int c = graph.add_class({links == 1 ? "nvlink" : fmt::format("nvlink x{}", links),
                                       Bandwidth{shape.bandwidth.value * links}, shape.latency, links});
        graph.join(i, j, c, c);
      }
    }
  }
}

void add_switch(NodeGraph& graph, const NodeShape& shape) {
  const int up = graph.add_class({"nvlink up", shape.bandwidth, shape.latency});
  const int down = graph.add_class({"nvlink down", shape.bandwidth, Time{}});
  const int nv_switch = graph.add(VertexKind::nv_switch);
  for (int d = 0; d < shape.devices; ++d) {
    graph.join(d, nv_switch, up, down);
  }
}

// One tree per node of the domain; things spread in order: the first devices and adapters under the first switch.
void add_pcie(NodeGraph& graph, const NodeShape& shape, const PcieTree& pcie) {
  const int up = graph.add_class({"pcie up", pcie.bandwidth, pcie.latency});
  const int flat = graph.add_class({"pcie", pcie.bandwidth, Time{}});
  const int nodes = shape.nodes_per_domain;
  const int devices = shape.devices / nodes, adapters = shape.adapters / nodes;
  for (int node = 0; node < nodes; ++node) {
    std::vector<int> sockets, switches;
    for (int s = 0; s < pcie.sockets; ++s) {
      sockets.push_back(graph.add(VertexKind::socket));
      if (pcie.memory_bandwidth.value > 0) {
        const int memory = graph.add_class({"memory", pcie.memory_bandwidth, Time{}});
        graph.join(sockets.back(), shape.devices + node * pcie.sockets + s, memory, memory);
      }
      for (int before = 0; before < s; ++before) {
        const int c = graph.add_class({"socket", pcie.socket_bandwidth, Time{}});
        graph.join(sockets[static_cast<std::size_t>(before)], sockets.back(), c, c);
      }
    }
    for (int s = 0; s < pcie.switches; ++s) {
      switches.push_back(graph.add(VertexKind::pcie_switch));
      graph.join(switches.back(), sockets[static_cast<std::size_t>(s * pcie.sockets / pcie.switches)], flat, flat);
    }
    const std::vector<int>& roots = switches.empty() ? sockets : switches;
    const auto root = [&](int i, int count) {
      return roots[static_cast<std::size_t>(i) * roots.size() / static_cast<std::size_t>(count)];
    };
    for (int d = 0; d < devices; ++d) {
      graph.join(node * devices + d, root(d, devices), up, flat);
    }
    for (int n = 0; n < adapters; ++n) {
      graph.adapters.push_back(graph.add(VertexKind::adapter));
      graph.join(graph.adapters.back(), root(n, adapters), flat, flat);
    }
  }
}

// Without PCIe numbers: a device that has an adapter for itself is its own end; several that share one meet at it.
void add_adapters(NodeGraph& graph, const NodeShape& shape) {
  if (shape.adapters == shape.devices) {
    for (int d = 0; d < shape.devices; ++d) {
      graph.adapters.push_back(d);
    }
    return;
  }
  const int c = graph.add_class({"adapter", shape.adapter_bandwidth, Time{}});
  for (int n = 0; n < shape.adapters; ++n) {
    graph.adapters.push_back(graph.add(VertexKind::adapter));
  }
  for (int d = 0; d < shape.devices; ++d) {
    const int n = static_cast<int>(std::int64_t{d} * shape.adapters / shape.devices);
    graph.join(d, graph.adapters[static_cast<std::size_t>(n)], c, c);
  }
}

}  // namespace

NodeGraph make_node_graph(const NodeShape& shape) {
  if (shape.kind == NodeKind::graph) {
    return *shape.graph;
  }
  NodeGraph graph;
  graph.adapter_bandwidth = shape.adapter_bandwidth;
  for (int d = 0; d < shape.devices; ++d) {
    graph.add(VertexKind::device);
  }
  if (shape.pcie != nullptr && shape.pcie->memory_bandwidth.value > 0) {
    for (int h = 0; h < shape.nodes_per_domain * shape.pcie->sockets; ++h) {
      graph.add(VertexKind::host);
    }
  }
  if (shape.kind == NodeKind::nv_switch) {
    add_switch(graph, shape);
  } else {
    add_mesh(graph, shape);
  }
  if (shape.pcie != nullptr) {
    add_pcie(graph, shape, *shape.pcie);
  } else {
    add_adapters(graph, shape);
  }
  return graph;
}

std::string describe(const NodeShape& shape) {
  const int devices = shape.kind == NodeKind::graph ? shape.graph->devices : shape.devices;
  const std::size_t adapters =
      shape.kind == NodeKind::graph ? shape.graph->adapters.size() : static_cast<std::size_t>(shape.adapters);
  const char* joined = "";
  switch (shape.kind) {
    case NodeKind::nv_switch: joined = "on NVSwitch"; break;
    case NodeKind::all_to_all: joined = "all to all"; break;
    case NodeKind::hybrid_cube_mesh: joined = "in a hybrid cube mesh"; break;
    case NodeKind::pairs: joined = "in pairs"; break;
    case NodeKind::pcie: joined = "on PCIe"; break;
    case NodeKind::graph: joined = "as imported"; break;
  }
  const std::string cables = shape.ports_per_adapter > 1 ? fmt::format(" x {}", shape.ports_per_adapter) : "";
  return fmt::format("{} {}, {} adapter{}{}", devices, joined, adapters, adapters == 1 ? "" : "s", cables);
}

}  // namespace foretrain::topologies
