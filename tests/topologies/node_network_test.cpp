// Networks inside nodes, and inside domains of several nodes.
#include <gtest/gtest.h>

#include "tests/support/message_of.h"
#include "tests/support/small_fabrics.h"
#include "tests/topologies/network_checks.h"
#include "topologies/network.h"

namespace foretrain::topologies {
namespace {

using foretrain::test::fabric_of;
using foretrain::test::message_of;
using foretrain::test::network_of;
using test::expect_shortest_routes;
using test::route;

// 18 trays of 4 in one NVLink domain; two domains, of which the second is half full.
TEST(Domain, LargerThanANode) {
  Fabric f = fabric_of(72);
  f.node.nodes_per_domain = 18;
  f.network = FatTree{.rails = 4, .radix = 64};
  const auto network = network_of(f, 27);
  EXPECT_EQ(network->devices(), 108);
  EXPECT_EQ(route(*network, 0, 71).hops.size(), 2U);
  EXPECT_EQ(route(*network, 0, 71).latency.value, 1'000'000);
  EXPECT_EQ(route(*network, 0, 72).latency.value, 5'000'000);
  EXPECT_EQ(network->ends(route(*network, 3, 107).hops.back().link).to, 107);
  EXPECT_EQ(network->vertex_name(107), "node 1 GPU 35");
  Cluster c;
  c.devices_per_node = 4;
  EXPECT_EQ(devices_per_unit(c), 4);
  c.fabric = std::make_shared<Fabric>(f);
  EXPECT_EQ(devices_per_unit(c), 72);
  c.devices_per_node = 2;  // half of each tray
  EXPECT_EQ(devices_per_unit(c), 36);
}

// A DGX-1: hybrid cube mesh of 25 GB/s links; two GPUs and one adapter on each of four PCIe switches, two sockets.
Fabric dgx1() {
  Fabric f = fabric_of(8);
  f.node.kind = NodeKind::hybrid_cube_mesh;
  f.node.bandwidth = {25e9};
  f.node.adapters = 4;
  f.node.pcie = std::make_shared<PcieTree>(PcieTree{4, 2, {15e9}, {19e9}, {60e9}, {500'000}});
  return f;
}

TEST(Node, HybridCubeMesh) {
  const auto network = network_of(dgx1(), 2);
  EXPECT_EQ(network->hosts(), 4);
  EXPECT_EQ(network->host_of(3), 16);
  EXPECT_EQ(network->host_of(4), 17);
  EXPECT_EQ(network->host_of(12), 19);
  expect_shortest_routes(*network);
  // Six links per GPU: 150 GB/s into the mesh.
  std::map<std::int64_t, double> out;
  for (LinkId id = 0; id < network->link_count(); ++id) {
    const LinkEnds ends = network->ends(id);
    if (ends.from < 8 && ends.to < 8) {
      out[ends.from] += network->link(id).capacity.value;
    }
  }
  for (std::int64_t d = 0; d < 8; ++d) {
    EXPECT_EQ(out[d], 150e9) << d;
  }
  EXPECT_EQ(route(*network, 0, 3).hops.size(), 1U);  // two links
  EXPECT_EQ(network->link(route(*network, 0, 3).hops[0].link).capacity.value, 50e9);
  // 0 and 5 share none: GPU, PCIe switch, socket, socket, PCIe switch, GPU.
  const Route across = route(*network, 0, 5);
  EXPECT_EQ(across.hops.size(), 5U);
  EXPECT_EQ(across.latency.value, 500'000);
  // Between nodes, through the adapter of the own PCIe switch: GPUs 0 and 1 share it, 2 has another.
  const Route outside = route(*network, 0, 8);
  EXPECT_EQ(outside.hops.size(), 2U + 2U + 2U);
  EXPECT_EQ(outside.latency.value, 5'000'000);  // what the way to the adapter takes is part of it
  EXPECT_EQ(route(*network, 1, 9).hops[2].link, outside.hops[2].link);
  EXPECT_NE(route(*network, 2, 10).hops[2].link, outside.hops[2].link);
  // Host memory to its GPU: socket, switch, GPU; 15 GB/s of PCIe is the least.
  EXPECT_EQ(route(*network, network->host_of(0), 0).hops.size(), 3U);
}

TEST(Node, MeshPairsAndPcieAlone) {
  Fabric mesh = fabric_of(4);
  mesh.node.kind = NodeKind::all_to_all;
  mesh.node.bandwidth = {25e9};
  mesh.node.links_per_pair = 4;
  expect_shortest_routes(*network_of(mesh, 2));
  EXPECT_EQ(network_of(mesh, 1)->bisection().value, 4 * 100e9);  // 2 x 2 pairs of four links
  Fabric pairs = fabric_of(4);
  pairs.node.kind = NodeKind::pairs;
  pairs.node.pcie = std::make_shared<PcieTree>(PcieTree{2, 1, {30e9}, {}, {}, {700'000}});
  const auto network = network_of(pairs, 2);
  expect_shortest_routes(*network);
  EXPECT_EQ(route(*network, 0, 1).hops.size(), 1U);
  EXPECT_EQ(route(*network, 0, 2).hops.size(), 4U);
  pairs.node.kind = NodeKind::pcie;
  EXPECT_EQ(route(*network_of(pairs, 1), 0, 1).hops.size(), 2U);
  expect_shortest_routes(*network_of(pairs, 1));
  // Without PCIe, two pairs have no way to each other.
  pairs.node.kind = NodeKind::pairs;
  pairs.node.pcie = nullptr;
  EXPECT_EQ(message_of([&] { network_of(pairs, 1); }), "the node is disconnected: no link leads from GPU 0 to GPU 2");
}

// Two GPUs and two adapters on one PCIe switch: each GPU has an adapter of its own.
TEST(Node, DevicesTakeTurnsAmongEqualAdapters) {
  Fabric f = fabric_of(4);
  f.node.pcie = std::make_shared<PcieTree>(PcieTree{2, 1, {30e9}, {}, {}, {}});
  const auto network = network_of(f, 2);
  std::set<LinkId> used;
  for (std::int64_t d = 0; d < 4; ++d) {
    used.insert(route(*network, d, d + 4).hops[2].link);
  }
  EXPECT_EQ(used.size(), 4U);
  // One adapter for four GPUs, without PCIe numbers: they meet at it.
  Fabric shared = fabric_of(4);
  shared.node.adapters = 1;
  const auto one = network_of(shared, 2);
  EXPECT_EQ(route(*one, 0, 4).hops[1].link, route(*one, 3, 7).hops[1].link);
  expect_shortest_routes(*one);
}

TEST(Node, FewerDevicesThanTheNodeHas) {
  const auto network = network_of(fabric_of(8), 3, 2);
  EXPECT_EQ(network->devices(), 6);
  EXPECT_EQ(network->link_count(), 3 * 16 + 3 * 16);
  expect_shortest_routes(*network);
}

}  // namespace
}  // namespace foretrain::topologies
