#include "topologies/fabric_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "tests/support/message_of.h"
#include "tests/topologies/network_checks.h"
#include "topologies/cluster_file.h"
#include "topologies/interconnect.h"

namespace foretrain::topologies {
namespace {

using foretrain::test::message_of;

// A cluster of nodes with 4 devices (100 GB/s, 1 us; 10 GB/s, 5 us between nodes) and this "fabric".
Cluster read(const std::string& fabric) {
  const JsonDocument document = JsonDocument::from_text(
      R"({"system": {"name": "box",
          "device": {"name": "chip", "memory": "1 GB", "memory_bandwidth": "1 GB/s", "peak": {"fp16": "1 TFLOP/s"}},
          "devices_per_node": 4,
          "intra": {"bandwidth": "100 GB/s", "latency": "1 us"}, "inter": {"bandwidth": "10 GB/s", "latency": "5 us"},
          "fabric": )" +
          fabric + R"(}, "nodes": 4})",
      "job.json");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  Cluster c = read_cluster(reader);
  reader.finish();
  mistakes.throw_if_any();
  return c;
}

TEST(FabricFile, AbsentFiguresFollowFromTheLinks) {
  const Cluster c = read("{}");
  ASSERT_NE(c.fabric, nullptr);
  EXPECT_EQ(to_json(*c.fabric), to_json(default_fabric(c)));
  // Two adapters for four devices have as much together.
  EXPECT_EQ(read(R"({"node": {"adapters": 2}})").fabric->node.adapter_bandwidth.value, 20e9);
  // Eight of 5 GB/s are four of 10 GB/s with two cables each.
  const Cluster eight = read(R"({"node": {"adapters": 8}})");
  EXPECT_EQ(eight.fabric->node.adapters, 4);
  EXPECT_EQ(eight.fabric->node.adapter_bandwidth.value, 10e9);
  EXPECT_EQ(eight.fabric->node.ports_per_adapter, 2);
}

TEST(FabricFile, EveryKindReadsBackToItself) {
  for (
      const char* fabric : {
          R"({})",
          R"({"node": {"kind": "all_to_all", "link_bandwidth": "25 GB/s", "links_per_pair": 4, "adapters": 2}})",
          R"({"node": {"kind": "pairs", "link_bandwidth": "25 GB/s", "pcie": {"switches": 2, "bandwidth": "31 GB/s"}}})",
          R"({"node": {"kind": "pcie", "pcie": {"sockets": 2, "bandwidth": "31 GB/s", "socket_bandwidth": "20 GB/s",
               "memory_bandwidth": "100 GB/s", "latency": "500 ns"}}, "switch_latency": "130 ns"})",
          R"({"node": {"nodes_per_domain": 2, "adapter_cables": 2}, "kind": "fat_tree", "rails": 4, "radix": 32, "tiers": 2,
               "oversubscription": 3, "leaf_ports": 8, "pod_leaves": 20, "cable": "40 GB/s", "pxn": true, "routing": "hashed"})",
          R"({"kind": "fat_tree", "oversubscription": [1, 7], "sites": {"count": 2, "bandwidth": "100 Gb/s", "latency": "5 ms"}})",
          R"({"kind": "dragonfly", "routers": 4, "adapters_per_router": 2, "global_links": 1, "global_bandwidth": "5 GB/s"})",
          R"({"kind": "torus", "dims": [4, 2, 2], "bandwidth": "50 GB/s"})",
      }) {
    const Cluster c = read(fabric);
    const std::string written = to_json(*c.fabric).dump();
    EXPECT_EQ(to_json(*read(written).fabric).dump(), written);
    const auto network = make_network(c);
    const auto* tree = std::get_if<FatTree>(&c.fabric->network);
    if (tree == nullptr || !tree->pxn) {  // with pxn a route may pass a neighbouring device
      // The routers of a dragonfly may be up to two local hops from the global links that a flow is spread over.
      const bool dragonfly = std::holds_alternative<Dragonfly>(c.fabric->network);
      test::expect_shortest_routes(*network, dragonfly ? 2 * route_cost({"", {10e9}, {}, 1}) : 0);
    }
  }
}

// A run that leaves devices idle still describes the whole node.
TEST(FabricFile, IdleDevicesKeepTheirPlaces) {
  const std::string text = R"({"system": "dgx-h100", "nodes": 2, "devices_per_node": 4})";
  const auto load = [](const std::string& t) {
    const JsonDocument document = JsonDocument::from_text(t, "job.json");
    Mistakes mistakes;
    ObjectReader reader(document, mistakes);
    return read_cluster(reader);
  };
  const Cluster c = load(text), again = load(to_json(c).dump());
  EXPECT_EQ(again.devices_per_node, 4);
  EXPECT_EQ(again.fabric->node.devices, 8);
  EXPECT_EQ(make_network(again)->link_count(), make_network(c)->link_count());
}

TEST(FabricFile, MistakesAllAtOnce) {
  EXPECT_EQ(
      message_of([] {
        read(R"({
  "node": {"kind": "nvswich", "bandwidth": "0 GB/s", "adapters": 6, "latency": "11 s",
           "pcie": {"bandwidth": "1e9 PB/s", "sockets": 2}},
  "kind": "fat_tree", "rails": 3, "radix": 1, "tiers": 5, "oversubscription": 0.5, "cable": "1 B/s", "hashed": true
})");
      }),
      R"(job.json:6: /system/fabric/node/kind: "nvswich" is not allowed; did you mean "nvswitch"? expected one of: nvswitch, all_to_all, hybrid_cube_mesh, pairs, pcie, graph
job.json:6: /system/fabric/node/bandwidth: must be more than zero
job.json:6: /system/fabric/node/latency: 11.0 s is no latency of a link; expected at most 10 s
job.json:7: /system/fabric/node/pcie/bandwidth: 1e+09 PB/s is no bandwidth of a link; expected 1 kB/s to 100 TB/s
job.json:7: /system/fabric/node/pcie/socket_bandwidth: missing, and has no default
job.json:6: /system/fabric/node/adapters: 6 adapters for 4 devices; expected at most 4, or a multiple of it
job.json:8: /system/fabric/radix: 1 is not allowed; expected an integer from 2 to 65536
job.json:8: /system/fabric/tiers: 5 is not allowed; expected an integer from 1 to 4
job.json:8: /system/fabric/oversubscription: 0.5 is not allowed; expected a number from 1 to 1000, or one for each of up to 3 tiers
job.json:8: /system/fabric/cable: 1.00 B/s is no bandwidth of a link; expected 1 kB/s to 100 TB/s
job.json:8: /system/fabric/hashed: unknown key "hashed"; known: source, node, kind, rails, radix, tiers, oversubscription, leaf_ports, pod_leaves, cable, pxn, routing, latency, switch_latency, sites)");
  const auto mistakes = [](const char* fabric) { return message_of([&] { read(fabric); }); };
  EXPECT_EQ(
      mistakes(R"({"node": {"kind": "hybrid_cube_mesh", "link_bandwidth": "1 GB/s"}})"),
      "job.json:5: /system/fabric/node/kind: a hybrid cube mesh has 8 devices; this node has 4\n"
      "job.json:5: /system/fabric/node/pcie: devices of a node of kind hybrid_cube_mesh are disconnected without it");
  EXPECT_EQ(mistakes(R"({"node": {"kind": "pairs", "link_bandwidth": "1 GB/s"}})"),
            "job.json:5: /system/fabric/node/pcie: devices of a node of kind pairs are disconnected without it");
  EXPECT_EQ(
      mistakes(R"({"node": {"nodes_per_domain": 500}})"),
      "job.json:5: /system/fabric/node/nodes_per_domain: 500 nodes of 4 devices are a domain of 2000; expected at "
      "most 1024");
  EXPECT_EQ(mistakes(R"({"kind": "fat_tree", "rails": 3})"),
            "job.json:5: /system/fabric/rails: 3 rails for 4 adapters per node; expected a divisor");
  EXPECT_EQ(
      mistakes(R"({"kind": "torus", "dims": []})"),
      "job.json:5: /system/fabric/dims: expected 1 to 6 sizes, such as [8, 8, 4], and at most 10 million routers");
  EXPECT_EQ(
      mistakes(R"({"kind": "torus", "dims": [2], "sites": {"count": 1, "bandwidth": "1 GB/s", "latency": "1 d"}})"),
      "job.json:5: /system/fabric/sites/count: 1 is not allowed; expected an integer from 2 to 1000\n"
      "job.json:5: /system/fabric/sites/latency: 1.00 d is no latency of a link; expected at most 10 s\n"
      "job.json:5: /system/fabric/sites: a torus has no gateway to other sites; expected kind fat_tree or "
      "non_blocking");
  EXPECT_EQ(
      mistakes(R"({"kind": "torus", "dims": [2], "sites": {"count": 2, "bandwidth": "1 GB/s", "latency": "1 ms"}})"),
      "job.json:5: /system/fabric/sites: a torus has no gateway to other sites; expected kind fat_tree or "
      "non_blocking");
}

// What NVIDIA lists for a DGX B200 SuperPOD by scalable unit of 32 nodes (docs.nvidia.com, reference architecture
// B200): leaves, spines, cores; eight rails, switches of 64 ports.
TEST(FatTree, AsManySwitchesAsTheReferenceArchitecture) {
  const auto shape = [](std::int64_t nodes) {
    Ports ports;
    ports.count = nodes * 8;
    ports.bandwidth = {50e9};
    return make_fat_tree(FatTree{.rails = 8}, ports, false)->shape();
  };
  EXPECT_EQ(shape(64), "8 rails: 16 leaves, 8 spines");
  EXPECT_EQ(shape(128), "8 rails: 32 leaves, 16 spines");
  EXPECT_EQ(shape(256), "8 rails: 64 leaves, 32 spines");
  EXPECT_EQ(shape(512), "8 rails: 128 leaves, 128 spines, 64 cores");
  EXPECT_EQ(shape(1024), "8 rails: 256 leaves, 256 spines, 128 cores");
  EXPECT_EQ(shape(2048), "8 rails: 512 leaves, 512 spines, 256 cores");
}

// Meta: 24,576 GPUs, 16 on a rack switch: 1,536 of them, 192 in a pod with 16 switches above; 192 / 7 = 27 cables up
// each: 128 x 27 = 3,456 in all, 14 x 256. Alibaba: 15,360 GPUs have 240 leaves, 1,024 GPUs 16.
TEST(Systems, AsManySwitchesAsPublished) {
  const auto shape = [](const char* name, std::int64_t nodes) {
    Cluster c = load_system(name);
    c.nodes = nodes;
    return make_network(c)->fabric_shape();
  };
  EXPECT_EQ(shape("meta-24k-roce", 3072), "1536 leaves, 128 spines, 14 cores");
  EXPECT_EQ(shape("alibaba-hpn", 128).substr(0, 18), "8 rails: 16 leaves");
  EXPECT_EQ(shape("alibaba-hpn", 1920).substr(0, 19), "8 rails: 240 leaves");
}

// Every system, alone and with others, routes between all of its devices; also at a size that nobody could list.
TEST(Systems, AllHaveANetwork) {
  for (const CatalogueItem& item : catalogue_items(kSystemFolder)) {
    SCOPED_TRACE(item.name);
    Cluster c = load_system(item.path);
    const int domain = c.fabric != nullptr ? c.fabric->node.nodes_per_domain : 1;
    for (const std::int64_t nodes : {1, 4 * domain, 2048}) {
      if (c.this_machine && nodes > 1) {
        continue;
      }
      c.nodes = nodes;
      const auto network = make_network(c);
      EXPECT_EQ(network->devices(), nodes * c.devices_per_node);
      Route route;
      for (std::int64_t i = 1; i < network->devices(); i = 2 * i + 1) {
        network->route(0, i, 0, route);
        test::expect_flow(*network, 0, i, route);
        EXPECT_GE(route.latency, std::min(c.intra.latency, c.inter.latency));
        network->route(i, 0, 0, route);
        test::expect_flow(*network, i, 0, route);
      }
      if (nodes == 2048) {
        EXPECT_GT(network->bisection().value, 0);
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::topologies
