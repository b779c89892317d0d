#include "topologies/network.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "base/error.h"
#include "tests/support/message_of.h"
#include "tests/support/small_fabrics.h"
#include "tests/topologies/network_checks.h"

namespace foretrain::topologies {
namespace {

using foretrain::test::fabric_of;
using foretrain::test::message_of;
using foretrain::test::network_of;
using test::expect_shortest_routes;
using test::halves_flow;
using test::route;

TEST(Network, WithoutADescriptionLatencyAndBandwidthAreTheClustersOwn) {
  Cluster c;
  c.nodes = 4;
  c.devices_per_node = 4;
  c.intra = {{300e9}, {3'400'001}};
  c.inter = {{25e9}, {14'000'001}};
  const auto network = make_network(c);
  EXPECT_EQ(network->devices(), 16);
  EXPECT_EQ(network->hosts(), 0);
  EXPECT_EQ(network->host_of(0), -1);
  // Up and down of each device to its node's switch, and of each adapter to the fabric's.
  EXPECT_EQ(network->link_count(), 16 * 2 + 16 * 2);
  const Route inside = route(*network, 0, 3), outside = route(*network, 0, 15);
  EXPECT_EQ(inside.latency, c.intra.latency);
  EXPECT_EQ(outside.latency, c.inter.latency);
  EXPECT_EQ(inside.hops.size(), 2U);
  EXPECT_EQ(outside.hops.size(), 2U);  // a device is the end of its own adapter
  EXPECT_EQ(network->link(inside.hops[0].link).capacity.value, 300e9);
  EXPECT_EQ(network->link(outside.hops[0].link).capacity.value, 25e9);
  EXPECT_EQ(network->bisection().value, 8 * 25e9);
  EXPECT_EQ(halves_flow(*network), 8 * 25e9);
  expect_shortest_routes(*network);
}

TEST(Network, OneDeviceAndOneNode) {
  const auto alone = network_of(fabric_of(1), 1);
  EXPECT_TRUE(route(*alone, 0, 0).hops.empty());
  EXPECT_EQ(alone->bisection().value, 0);
  const auto node = network_of(fabric_of(8), 1);
  EXPECT_EQ(node->link_count(), 16);
  EXPECT_EQ(node->bisection().value, 4 * 100e9);
  expect_shortest_routes(*node);
}

// Radix 4, leaf 2 + 2: 2 tiers join 8 ports with 2 spines; 3 tiers 16 with 4 cores.
TEST(FatTree, SizesFollowFromTheRadix) {
  Fabric f = fabric_of(1);
  f.network = FatTree{.radix = 4};
  EXPECT_EQ(network_of(f, 4)->vertex_count(), 4 + 4 + 1);      // devices, their NVSwitch, one switch
  EXPECT_EQ(network_of(f, 8)->vertex_count(), 8 + 8 + 4 + 1);  // four leaves, one stage of spines
  EXPECT_EQ(network_of(f, 16)->vertex_count(), 16 + 16 + 8 + 4 + 1);
  f.routing = Routing::hashed;
  EXPECT_EQ(network_of(f, 8)->vertex_count(), 8 + 8 + 4 + 2);
  EXPECT_EQ(network_of(f, 16)->vertex_count(), 16 + 16 + 8 + 8 + 4);
  EXPECT_EQ(network_of(f, 16)->link_count(), 16 * 2 + 3 * 32);  // as many cables on every tier as ports
  EXPECT_EQ(message_of([&] {
              Fabric two = f;
              std::get<FatTree>(two.network).tiers = 2;
              network_of(two, 9);
            }),
            "switches of 4 ports in 2 tiers join at most 8 adapters; 9 are asked for");
  EXPECT_EQ(message_of([&] {
              Fabric full = f;
              std::get<FatTree>(full.network).leaf_ports = 3;
              network_of(full, 9);
            }),
            "a switch of tier 1 has 3 ports below and needs 3 above; its radix is 4");
}

TEST(FatTree, RoutesAreShortestAndLatencyCountsSwitches) {
  for (const Routing routing : {Routing::sprayed, Routing::hashed}) {
    for (const int rails : {1, 2, 4}) {
      for (const double over : {1.0, 3.0}) {
        for (const std::int64_t nodes : {2, 3, 5, 8}) {
          SCOPED_TRACE(
              fmt::format("hashed {} rails {} over {} nodes {}", routing == Routing::hashed, rails, over, nodes));
          Fabric f = fabric_of(4);
          f.network = FatTree{.rails = rails, .radix = 8, .oversubscription = {over}};
          f.routing = routing;
          const auto network = network_of(f, nodes);
          expect_shortest_routes(*network);
        }
      }
    }
  }
  Fabric f = fabric_of(1);
  f.network = FatTree{.radix = 4};
  const auto network = network_of(f, 16);
  EXPECT_EQ(route(*network, 0, 1).latency.value, 5'000'000);   // one leaf
  EXPECT_EQ(route(*network, 0, 2).latency.value, 5'200'000);   // leaf, spine, leaf
  EXPECT_EQ(route(*network, 0, 15).latency.value, 5'400'000);  // leaf, spine, core, spine, leaf
}

TEST(FatTree, ThreeAndFourTiers) {
  for (const Routing routing : {Routing::sprayed, Routing::hashed}) {
    for (const std::int64_t nodes : {16, 19, 32}) {  // four ports a switch: 16 adapters fill three tiers, 32 four
      Fabric f = fabric_of(1);
      f.network = FatTree{.radix = 4};
      f.routing = routing;
      const auto network = network_of(f, nodes);
      expect_shortest_routes(*network);
      EXPECT_EQ(network->bisection().value, static_cast<double>(nodes / 2) * 10e9);
      EXPECT_EQ(halves_flow(*network), network->bisection().value);
    }
  }
}

// Each of a leaf's two ports at 10 GB/s: 20 GB/s up without oversubscription.
TEST(FatTree, ABundleCarriesAllItsCables) {
  Fabric f = fabric_of(1);
  f.network = FatTree{.radix = 4};
  const auto network = network_of(f, 16);
  const Route r = route(*network, 0, 15);
  ASSERT_EQ(r.hops.size(), 6U);
  const std::vector<double> capacity{10e9, 20e9, 40e9, 40e9, 20e9, 10e9};
  const std::vector<int> width{1, 2, 4, 4, 2, 1};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(network->link(r.hops[i].link).capacity.value, capacity[i]);
    EXPECT_EQ(network->link(r.hops[i].link).width, width[i]);
  }
}

// The hashed network is the sprayed one cable by cable: over all hashes, a pair uses each cable of each bundle, and
// what leaves a leaf is the same.
TEST(FatTree, HashedPathsTogetherAreTheBundles) {
  Fabric f = fabric_of(1);
  f.network = FatTree{.radix = 4};
  const auto bundles = network_of(f, 16);
  f.routing = Routing::hashed;
  const auto cables = network_of(f, 16);
  std::map<int, double> bundle_capacity, cable_capacity;  // by link class, over all links
  for (LinkId id = 0; id < bundles->link_count(); ++id) {
    bundle_capacity[bundles->link(id).link_class] += bundles->link(id).capacity.value;
  }
  for (LinkId id = 0; id < cables->link_count(); ++id) {
    cable_capacity[cables->link(id).link_class] += cables->link(id).capacity.value;
  }
  EXPECT_EQ(bundle_capacity, cable_capacity);
  std::set<LinkId> used;
  for (std::uint64_t salt = 0; salt < 200; ++salt) {
    const Route r = route(*cables, 0, 15, salt);
    EXPECT_EQ(r.hops.size(), 6U);
    for (const Route::Hop& hop : r.hops) {
      used.insert(hop.link);
    }
  }
  EXPECT_EQ(used.size(), 1U + 2 + 4 + 4 + 2 + 1);
  EXPECT_EQ(route(*cables, 0, 15, 3).hops[2].link, route(*cables, 0, 15, 3).hops[2].link);
}

TEST(FatTree, BisectionIsTheMaximumFlow) {
  for (const Routing routing : {Routing::sprayed, Routing::hashed}) {
    for (const double over : {1.0, 3.0}) {
      for (const std::int64_t nodes : {6, 12}) {  // whole leaves: of four adapters, or of six
        Fabric f = fabric_of(2);
        f.network = FatTree{.rails = 1, .radix = 8, .tiers = 2, .oversubscription = {over}};
        f.routing = routing;
        const auto network = network_of(f, nodes);
        // Full bisection: each of the devices in one half sends 10 GB/s. A third of it when three ports share one
        // cable.
        EXPECT_NEAR(network->bisection().value, static_cast<double>(nodes) * 10e9 / over, 1);
        EXPECT_NEAR(halves_flow(*network), network->bisection().value, 1000);
      }
    }
  }
}

TEST(FatTree, RailsMeetInTheSpine) {
  Fabric f = fabric_of(4);
  f.network = FatTree{.rails = 4, .radix = 16};
  const auto network = network_of(f, 4);
  EXPECT_EQ(route(*network, 1, 5).hops.size(), 2U);  // the same rail: one leaf
  EXPECT_EQ(route(*network, 1, 6).hops.size(), 4U);  // another: over a spine
  std::get<FatTree>(f.network).pxn = true;
  const auto pxn = network_of(f, 4);
  const Route r = route(*pxn, 1, 6);  // to GPU 2 of the own node first
  ASSERT_EQ(r.hops.size(), 4U);
  EXPECT_EQ(pxn->ends(r.hops[1].link).to, 2);
  test::expect_flow(*pxn, 1, 6, r);
  EXPECT_EQ(r.latency.value, 6'000'000);
  // Rail-only: no route without it.
  std::get<FatTree>(f.network).tiers = 1;
  EXPECT_EQ(route(*network_of(f, 4), 1, 6).hops.size(), 4U);
  std::get<FatTree>(f.network).pxn = false;
  const auto apart = network_of(f, 4);
  EXPECT_EQ(route(*apart, 1, 5).hops.size(), 2U);
  EXPECT_EQ(
      message_of([&] { route(*apart, 1, 6); }),
      "no route from adapter 1 to adapter 6: nothing joins rail 1 and rail 2; expected a second tier, or \"pxn\": "
      "true");
}

// Each adapter has two cables of 5 GB/s into two planes.
TEST(FatTree, DualPlane) {
  Fabric f = fabric_of(2);
  f.node.ports_per_adapter = 2;
  f.network = FatTree{.rails = 2, .radix = 8};
  const auto sprayed = network_of(f, 8);
  EXPECT_EQ(sprayed->link(route(*sprayed, 0, 15).hops[0].link).capacity.value, 10e9);
  expect_shortest_routes(*sprayed);
  EXPECT_EQ(halves_flow(*sprayed), 8 * 10e9);
  f.routing = Routing::hashed;
  const auto hashed = network_of(f, 8);
  EXPECT_EQ(hashed->link(route(*hashed, 0, 15).hops[0].link).capacity.value, 5e9);
  expect_shortest_routes(*hashed);
  EXPECT_EQ(halves_flow(*hashed), 8 * 10e9);
}

// Global links cost more than any detour inside two groups, so that the shortest route is the minimal one.
Fabric dragonfly(int routers, int ports, int global_links, Routing routing) {
  Fabric f = fabric_of(2);
  f.network = Dragonfly{routers, ports, global_links, {40e9}, {1e9}};
  f.routing = routing;
  return f;
}

TEST(Dragonfly, RoutesAreMinimal) {
  for (const Routing routing : {Routing::sprayed, Routing::hashed}) {
    // Four routers with one global link each: five groups, one link between each two (balanced: ports 2 = h x 2).
    const auto balanced = network_of(dragonfly(4, 2, 1, routing), 20);
    EXPECT_EQ(balanced->devices(), 40);
    expect_shortest_routes(*balanced);
    // Two groups, four links between them: to the router that has one it is a local hop or none.
    const auto wide = network_of(dragonfly(4, 2, 1, routing), 8);
    const std::int64_t local = route_cost({"", {40e9}, {100'000}, 1});
    expect_shortest_routes(*wide, 2 * local);
    EXPECT_EQ(route(*wide, 0, 15).whole, routing == Routing::sprayed ? 4 : 1);
    expect_shortest_routes(*network_of(dragonfly(1, 2, 3, routing), 4));  // routers without neighbours
    expect_shortest_routes(*network_of(dragonfly(4, 2, 1, routing), 3));  // one group
  }
  EXPECT_EQ(message_of([&] { network_of(dragonfly(2, 1, 1, Routing::sprayed), 4); }),
            "4 groups of 2 routers with 1 global links each are disconnected: 2 links leave a group, 3 are needed");
}

// Devices 0 .. 7 in group 0, 8 .. 15 in group 1; copy t of the four links joins router t with router t. From router 0
// to router 3 of the other group: a quarter over each link; three quarters leave router 0 over local links.
TEST(Dragonfly, SharesByHand) {
  const auto network = network_of(dragonfly(4, 2, 1, Routing::sprayed), 8);
  const Route r = route(*network, 0, 15);
  std::map<int, int> shares;  // by class
  for (const Route::Hop& hop : r.hops) {
    shares[network->link(hop.link).link_class] += hop.share;
  }
  // Classes: two of the node, then adapter up, adapter down, local, global.
  EXPECT_EQ(shares, (std::map<int, int>{{2, 4}, {3, 4}, {4, 6}, {5, 4}}));
  EXPECT_EQ(r.latency.value, 5'000'000 + 3 * 100'000);  // local, global, local
  EXPECT_EQ(network->bisection().value, 4e9);
  EXPECT_EQ(halves_flow(*network), 4e9);
}

TEST(Torus, RoutesAreShortest) {
  for (const Routing routing : {Routing::sprayed, Routing::hashed}) {
    for (const std::vector<int>& dims : std::vector<std::vector<int>>{{1}, {2}, {5}, {4, 3}, {2, 2, 2}, {4, 1, 2}}) {
      Fabric f = fabric_of(1);
      f.network = Torus{dims, 1, {20e9}};
      f.routing = routing;
      std::int64_t routers = 1;
      for (const int d : dims) {
        routers *= d;
      }
      if (routers > 1) {
        expect_shortest_routes(*network_of(f, routers));
      }
    }
  }
  Fabric f = fabric_of(1);
  f.network = Torus{{2, 2}, 1, {}};
  EXPECT_EQ(message_of([&] { network_of(f, 5); }),
            "a torus of 4 routers with 1 adapters each joins 4; 5 are asked for");
}

// A ring of four: to the opposite router half goes each way, over two links.
TEST(Torus, TiesGoBothWays) {
  Fabric f = fabric_of(1);
  f.network = Torus{{4}, 1, {20e9}};
  const auto network = network_of(f, 4);
  const Route r = route(*network, 0, 2);
  EXPECT_EQ(r.whole, 2);
  ASSERT_EQ(r.hops.size(), 6U);
  EXPECT_EQ(r.hops.front().share, 2);
  EXPECT_EQ(r.hops[1].share, 1);
  EXPECT_EQ(r.latency.value, 5'200'000);
  // 4 x 4 at 2 GB/s: each half of the routers meets the other over 2 x 4 links.
  f.network = Torus{{4, 4}, 1, {2e9}};
  EXPECT_EQ(network_of(f, 16)->bisection().value, 16e9);
  EXPECT_EQ(halves_flow(*network_of(f, 16)), 16e9);
}

TEST(Sites, ALongLinkBetweenDataCentres) {
  for (const Routing routing : {Routing::sprayed, Routing::hashed}) {
    Fabric f = fabric_of(2);
    f.network = FatTree{.radix = 4};
    f.routing = routing;
    f.sites = {3, {8e9}, {20'000'000'000}};
    const auto network = network_of(f, 12);
    const Route r = route(*network, 0, 23);
    EXPECT_EQ(r.latency.value, 5'000'000 + 20'000'000'000 + 2 * 100'000);  // up to the spine, down from the other
    double least = 1e18;
    for (const Route::Hop& hop : r.hops) {
      least = std::min(least, network->link(hop.link).capacity.value);
    }
    EXPECT_EQ(least, 8e9);
    expect_shortest_routes(*network);
    EXPECT_EQ(network->bisection().value, 2 * 8e9);  // one site against two
    EXPECT_EQ(message_of([&] { network_of(f, 13); }), "3 sites share 13 nodes; expected a multiple of 3");
  }
}

// What cannot be built names its system, if that has a name.
TEST(Network, MistakesNameTheSystem) {
  Fabric f = fabric_of(8);
  f.sites = {3, {8e9}, {1'000'000}};
  Cluster c;
  c.nodes = 13;
  c.devices_per_node = 8;
  c.fabric = std::make_shared<Fabric>(f);
  EXPECT_EQ(message_of([&] { make_network(c); }), "3 sites share 13 nodes; expected a multiple of 3");
  c.name = "far";
  EXPECT_EQ(message_of([&] { make_network(c); }), "far: 3 sites share 13 nodes; expected a multiple of 3");
}

// Whatever the numbers, the network is refused with a reason, or every route of it flows and is a shortest one.
TEST(Network, RandomDescriptions) {
  std::mt19937 random(20240607);
  const auto upto = [&](unsigned most) { return 1 + static_cast<int>(random() % most); };
  int built = 0, refused = 0;
  for (int i = 0; i < 200; ++i) {
    Fabric f = fabric_of(upto(4));
    const int shared = upto(2);
    f.node.adapters = f.node.devices % shared == 0 ? f.node.devices / shared : f.node.devices;
    f.node.kind = std::array{NodeKind::nv_switch, NodeKind::all_to_all, NodeKind::pcie}[random() % 3];
    if (f.node.kind == NodeKind::pcie || random() % 2 == 0) {
      f.node.pcie = std::make_shared<PcieTree>(PcieTree{upto(3) - 1, upto(2), {15e9}, {9e9}, {50e9}, {500'000}});
      f.node.adapters = 1;  // of several equally near ones a device keeps its own, also where another were nearer
    }
    f.node.ports_per_adapter = upto(2);
    f.routing = random() % 2 == 0 ? Routing::sprayed : Routing::hashed;
    std::int64_t excess = 0;
    switch (random() % 4) {
      case 0: f.network = NonBlocking{}; break;
      case 1:
        f.network = FatTree{.rails = upto(static_cast<unsigned>(f.node.adapters)),
                            .radix = 2 + upto(8),
                            .tiers = upto(5) - 1,
                            .oversubscription = {static_cast<double>(upto(3))}};
        break;
      case 2:
        f.network = Dragonfly{upto(4), upto(3), upto(2), {40e9}, {1e9}};
        excess = 2 * route_cost({"", {40e9}, {100'000}, 1});
        break;
      default: f.network = Torus{{upto(4), upto(3)}, upto(3), {20e9}};
    }
    f.sites.count = f.network.index() < 2 ? upto(2) : 1;
    f.sites.bandwidth = {5e9};
    SCOPED_TRACE(i);
    std::unique_ptr<Network> network;
    try {
      network = network_of(f, upto(8));
      route(*network, 0, network->devices() - 1);  // rails of one tier may not meet
    } catch (const InputError&) {
      ++refused;
      continue;
    }
    const auto* tree = std::get_if<FatTree>(&f.network);
    if (tree != nullptr && tree->tiers == 1 && tree->rails > 1) {
      continue;
    }
    ++built;
    expect_shortest_routes(*network, excess);
  }
  EXPECT_GT(built, 100);
  EXPECT_GT(refused, 10);
}

}  // namespace
}  // namespace foretrain::topologies
