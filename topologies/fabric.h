// What a network is made from: a few numbers, never a list of links. read_fabric (topologies/fabric_file.h) reads them,
// make_network (topologies/network.h) builds from them.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "base/units.h"
#include "topologies/node_graph.h"

namespace foretrain::topologies {

// How the devices of one node, or of one domain of several nodes, reach each other.
enum class NodeKind {
  nv_switch,         // every device on one switch stage without contention
  all_to_all,        // `links_per_pair` links between each two
  hybrid_cube_mesh,  // 8 devices: two quads of six pairs with 1 or 2 links each, and 1 or 2 links across (DGX-1)
  pairs,             // devices 2i and 2i+1 joined by `links_per_pair` links (NVLink bridges); the rest over PCIe
  pcie,              // PCIe and nothing else
  graph,             // as imported
};

struct PcieTree {
  int switches = 0;            // devices and adapters spread evenly over them; 0: they hang on the sockets
  int sockets = 1;             // switches spread evenly over them
  Bandwidth bandwidth;         // of every PCIe link
  Bandwidth socket_bandwidth;  // between each two sockets; needed with two or more
  Bandwidth memory_bandwidth;  // of a socket's memory for copies; 0: host memories are no end points
  Time latency;                // device to device under one switch
};

struct NodeShape {
  NodeKind kind = NodeKind::nv_switch;
  int devices = 1;           // of the whole domain
  int nodes_per_domain = 1;  // more than 1: the devices of several nodes share the switches (NVL72: 18)
  Bandwidth bandwidth;       // nv_switch: per device; meshes: per link
  Time latency;              // device to device
  int links_per_pair = 1;
  int adapters = 1;                        // of the whole domain
  Bandwidth adapter_bandwidth;             // of one adapter
  int ports_per_adapter = 1;               // cables that an adapter has into the fabric, its bandwidth split over them
  std::shared_ptr<const PcieTree> pcie;    // null: every device is joined straight to its adapter
  std::shared_ptr<const NodeGraph> graph;  // kind graph, with its adapters; nothing else above then counts
};

enum class Routing {
  sprayed,  // every flow evenly over all of its equal paths (adaptive routing, packet spraying)
  hashed,   // every flow on one of them, by a hash of its ends and its salt (ECMP)
};

// Folded Clos. A leaf has `leaf_ports` adapters below; tiers above as wide as the oversubscription asks for. With
// rails = r, adapter n of every node goes to the leaves of rail n mod r: "rail-optimised".
struct FatTree {
  int rails = 1;
  int radix = 64;                        // ports of a switch
  int tiers = 0;                         // 0: the fewest that fit; 1 with rails: each rail on its own (rail-only)
  std::vector<double> oversubscription;  // leaves, then the tier above; absent ones are 1
  int leaf_ports = 0;                    // 0: as many as radix and oversubscription give
  int pod_leaves = 0;                    // leaves below one pod of a third tier; 0: likewise
  Bandwidth cable;                       // between switches; 0: as an adapter's port
  bool pxn = false;  // to another rail: over NVLink to the neighbour on that rail first, and through no spine
};

// One switch that everything hangs on.
struct NonBlocking {};

// Groups of `routers` joined all to all inside, each router with `ports` adapters and `global_links` to other groups;
// minimal routing: at most one global link.
struct Dragonfly {
  int routers = 1;
  int ports = 1;
  int global_links = 1;
  Bandwidth local_bandwidth;   // 0: as an adapter
  Bandwidth global_bandwidth;  // of one global link; 0: as an adapter
};

// Routers on a grid that wraps around, `ports` adapters each; dimension order.
struct Torus {
  std::vector<int> dims;
  int ports = 1;
  Bandwidth bandwidth;  // of one link to a neighbour; 0: as an adapter
};

// Several data centres, each with its own fabric and an equal part of the nodes, joined pair by pair by a long link.
struct Sites {
  int count = 1;
  Bandwidth bandwidth;  // between two of them
  Time latency;
};

struct Cluster;

struct Fabric {
  NodeShape node;
  std::variant<NonBlocking, FatTree, Dragonfly, Torus> network;
  Routing routing = Routing::sprayed;
  Time latency;         // device to device through one switch of the fabric
  Time switch_latency;  // of every further switch
  Sites sites;
};

// What a cluster without a description has: devices of a node on one switch (`intra`), an adapter for each (of hosts
// one for all), and one switch for all adapters (`inter`).
Fabric default_fabric(const Cluster& cluster);

}  // namespace foretrain::topologies
