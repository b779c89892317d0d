// One node (or one NVLink domain) as a small graph: devices, switches, sockets, host memories, adapters. Generated from
// a NodeShape or imported. All nodes of a cluster are equal, so that one table of routes serves them all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/units.h"

namespace foretrain::topologies {

struct LinkClass {
  std::string name;  // "nvlink up"
  Bandwidth capacity;
  Time latency;
  int width = 1;
};

enum class VertexKind { device, host, nv_switch, pcie_switch, socket, adapter };
const char* name(VertexKind kind);  // "GPU", "memory", …

struct NodeGraph {
  struct Vertex {
    VertexKind kind;
    int index;  // among those of its kind
  };
  struct Link {  // directed
    int from, to;
    int link_class;
  };
  std::vector<Vertex> vertices;  // devices, then hosts, then the rest
  std::vector<Link> links;
  std::vector<LinkClass> classes;
  std::vector<int> adapters;    // vertex of each adapter; a device's own where it has one for itself
  Bandwidth adapter_bandwidth;  // of one adapter into the fabric
  int devices = 0, hosts = 0;

  int add(VertexKind kind);
  int add_class(LinkClass link_class);  // an equal one is not added again
  // Both directions. Requires: capacity > 0.
  void join(int a, int b, int out_class, int back_class);
  std::string vertex_name(int vertex) const;
};

// Shortest routes by Boost.Graph's Dijkstra. A link costs its latency and the time of 1 MiB over it, so that of two
// ways the faster bus wins; of equal ones that with the lower link at the first difference seen from its end. Only
// switches and sockets pass traffic on: a device, a host memory or an adapter is never in the middle of a route.
class NodeRoutes {
 public:
  // Throws InputError where a device cannot reach another one, or none of the adapters that there are.
  explicit NodeRoutes(const NodeGraph& graph);

  const std::vector<int>& between(int from_vertex,
                                  int to_vertex) const;  // of devices, hosts and adapters; links in order
  int adapter_of(int device) const {
    return adapter_of_[static_cast<std::size_t>(device)];
  }  // nearest; shared evenly; -1: none
  int host_of(int device) const { return host_of_[static_cast<std::size_t>(device)]; }  // nearest; -1: none
  Time latency(const std::vector<int>& links) const;

 private:
  const NodeGraph* graph_;
  std::vector<int> row_;  // of an end vertex in paths_; -1 for switches
  std::size_t ends_ = 0;
  std::vector<std::vector<int>> paths_;
  std::vector<int> adapter_of_, host_of_;
};

// Cost of a link for NodeRoutes, in picoseconds, at least 1.
std::int64_t route_cost(const LinkClass& link_class);

}  // namespace foretrain::topologies
