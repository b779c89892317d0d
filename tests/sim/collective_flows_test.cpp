// Rounds as flows on a routed network: against the closed form where nothing is shared, folded against transfer by
// transfer everywhere, and by hand where links are shared.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <tuple>

#include "base/error.h"
#include "sim/collective/flow_rounds.h"
#include "sim/collective/transfer_classes.h"
#include "tests/support/collective_cases.h"
#include "tests/support/small_fabrics.h"

namespace foretrain::sim::collective {
namespace {

using test::fabric_of;
using test::for_each_algorithm;
using test::layouts;
using test::network_of;
using topologies::Cluster;
using topologies::make_network;
using topologies::Network;

constexpr std::initializer_list<int> kPerNode{1, 2, 4}, kPieces{1, 3, 40};

struct Links {
  double node_rate, fabric_rate;
  std::int64_t node_latency, fabric_latency;  // ps
  double efficiency;
};

std::unique_ptr<Network> idle_network(const Layout& layout, const Links& links) {
  Cluster c;
  c.nodes = layout.nodes();
  c.devices_per_node = layout.most_on_node();
  c.intra = {{links.node_rate}, {links.node_latency}};
  c.inter = {{links.fabric_rate}, {links.fabric_latency}};
  return make_network(c);
}

// To one picosecond per round: the end of every round is rounded up. Rates are rounded down to 2^-16 B/s, which in a
// round of 0.1 s is a hundredth of a picosecond at most, and may be what takes it beyond a whole one.
TEST(CollectiveFlows, AgreeWithTheClosedFormOnAnIdleFabric) {
  const std::vector<Links> fabrics{{400e9, 50e9, 3'000'000, 14'000'000, 0.87}, {20e9, 90e9, 9'000'001, 1'000'000, 1.0}};
  for (const int n : {2, 3, 4, 5, 7, 8, 16, 17}) {
    for (const Layout& layout : layouts(n, kPerNode)) {
      for (const Links& links : fabrics) {
        const auto network = idle_network(layout, links);
        const Fabric fabric{links.node_rate, links.fabric_rate, static_cast<double>(links.node_latency) * 1e-12,
                            static_cast<double>(links.fabric_latency) * 1e-12, links.efficiency};
        FlowOptions options;
        options.efficiency = links.efficiency;
        for_each_algorithm(layout, kPieces, [&](const Algorithm& a, const Request& r) {
          for (const std::int64_t bytes : {0, 1, 1048573, 100'000'000}) {
            const FlowRounds flows = flow_rounds(a, r, Bytes{bytes}, *network, layout.most_on_node(), options);
            const double closed = a.seconds(r, static_cast<double>(bytes), fabric) * 1e12;
            ASSERT_EQ(flows.rounds, a.shape(r).steps);
            ASSERT_GE(static_cast<double>(flows.time.value), closed * (1 - 1e-14)) << bytes << " bytes";
            ASSERT_LE(static_cast<double>(flows.time.value) - closed, 1.01 * a.shape(r).steps) << bytes << " bytes";
          }
        });
      }
    }
  }
}

// As many transfers of as many chunks between the same two.
TEST(CollectiveFlows, ARoundThatIsSaidToBeTheSameIs) {
  for (int n = 2; n <= 17; ++n) {
    for (const Layout& layout : layouts(n, kPerNode)) {
      for_each_algorithm(layout, kPieces, [&](const Algorithm& a, const Request& r) {
        const auto round = [&](int index) {
          std::vector<Transfer> transfers;
          a.step(r, index, transfers);
          std::map<std::tuple<int, int, std::int64_t>, int> ends;
          for (const Transfer& t : transfers) {
            ++ends[{t.from, t.to, t.count}];
          }
          return ends;
        };
        for (int i = 0; i < a.shape(r).steps; ++i) {
          const int first = a.same_round(r, i);
          ASSERT_LE(first, i);
          ASSERT_EQ(a.same_round(r, first), first) << i;
          if (first < i) {
            ASSERT_EQ(round(i), round(first)) << i << " as " << first;
          }
        }
      });
    }
  }
}

// Networks where much is shared, unlike, or hashed.
std::vector<std::pair<std::string, topologies::Fabric>> shared_fabrics() {
  std::vector<std::pair<std::string, topologies::Fabric>> all;
  topologies::Fabric f = fabric_of(4);
  topologies::FatTree tree;
  tree.radix = 8;
  tree.oversubscription = {3};
  f.network = tree;
  all.emplace_back("oversubscribed tree", f);
  f.routing = topologies::Routing::hashed;
  all.emplace_back("hashed tree", f);
  tree.rails = 4;
  f.network = tree;
  all.emplace_back("hashed rails", f);
  f = fabric_of(4);
  f.node.adapters = 1;
  all.emplace_back("one adapter for four", f);
  f = fabric_of(4);
  f.network = topologies::Dragonfly{2, 4, 1, {}, {}};
  all.emplace_back("dragonfly", f);
  f.network = topologies::Torus{{3, 2, 2}, 4, {}};
  all.emplace_back("torus", f);
  f = fabric_of(4);
  f.node.kind = topologies::NodeKind::pcie;
  f.node.pcie = std::make_shared<topologies::PcieTree>(topologies::PcieTree{2, 2, {25e9}, {20e9}, {}, {500'000}});
  all.emplace_back("PCIe", f);
  return all;
}

TEST(CollectiveFlows, FoldedIsTransferByTransfer) {
  for (const auto& [title, fabric] : shared_fabrics()) {
    const auto network = network_of(fabric, 6);
    for (const std::vector<int>& on_nodes : {std::vector{4}, {4, 4, 4, 4, 4, 4}, {4, 1, 3, 2}, {1, 1, 1, 1, 1}}) {
      const Layout layout(on_nodes);
      SCOPED_TRACE(title);
      for_each_algorithm(layout, kPieces, [&](const Algorithm& a, const Request& r) {
        if (!flow_refusal(a, layout, *network, 4).empty()) {
          return;
        }
        for (const std::int64_t slow : {0, 1}) {
          FlowOptions options;
          options.efficiency = 0.9;
          if (slow > 0) {
            options.speeds = {{5, 0.3}, {network->link_count() - 7, 0.5}};
          }
          const FlowRounds folded = flow_rounds(a, r, Bytes{1'048'573}, *network, 4, options);
          options.fold_ranks = options.fold_rounds = false;
          const FlowRounds by_one = flow_rounds(a, r, Bytes{1'048'573}, *network, 4, options);
          ASSERT_EQ(folded.time, by_one.time);
          ASSERT_EQ(by_one.simulated, by_one.rounds);
          ASSERT_EQ(by_one.flows, by_one.transfers);
          ASSERT_LE(folded.flows, folded.transfers);
        }
      });
    }
  }
}

// Four rings over 8 nodes of 4, chunks of S/128 = 1 MB. A leaf has the 8 adapters of 2 nodes below and, 4 to 1, 2
// cables of 10 GB/s above. Every second node boundary lies between leaves, where 4 flows share 20 GB/s: 200 us a round,
// and the latency of the way over the top.
TEST(CollectiveFlows, AnOversubscribedRingByHand) {
  topologies::Fabric f = fabric_of(4);
  topologies::FatTree tree;
  tree.radix = 10;
  tree.oversubscription = {4};
  f.network = tree;
  const auto network = network_of(f, 8);
  const Layout layout = Layout::packed(32, 4);
  const Request request{Kind::all_gather, &layout, 1};
  topologies::Route across;
  network->route(4, 8, 0, across);
  const FlowRounds ring = flow_rounds(*find_algorithm("ring"), request, Bytes{128'000'000}, *network, 4);
  EXPECT_EQ(ring.time.value, 31 * (across.latency.value + 200'000'000));
  EXPECT_EQ(ring.rounds, 31);
  EXPECT_EQ(ring.simulated, 1);
  EXPECT_EQ(ring.transfers, 4 * 32);
}

// One cable of 256 at a third of its speed: its flow is alone, the rest stay together.
TEST(CollectiveFlows, OnlyWhatASlowLinkReachesUnfolds) {
  const Layout layout = Layout::packed(256, 4);
  const Request request{Kind::all_reduce, &layout, 1};
  const auto network = network_of(fabric_of(4), 64);
  const Algorithm& ring = *find_algorithm("ring");
  const FlowRounds whole = flow_rounds(ring, request, Bytes{1 << 30}, *network, 4);
  EXPECT_EQ(whole.flows, 2);  // inside nodes, between them
  FlowOptions options;
  topologies::Route route;
  network->route(3, 7, 0, route);  // a ring leaves node 0 where it enters node 1
  options.speeds = {{route.hops.front().link, 1.0 / 3}};
  const FlowRounds slow = flow_rounds(ring, request, Bytes{1 << 30}, *network, 4, options);
  EXPECT_EQ(slow.flows, 3);
  EXPECT_GT(slow.time, whole.time);
  EXPECT_LT(slow.time.value, 3 * whole.time.value);
}

TEST(CollectiveFlows, ASwitchMustBeThere) {
  const Layout layout = Layout::packed(4, 4);
  topologies::Fabric f = fabric_of(4);
  f.node.kind = topologies::NodeKind::all_to_all;
  const auto network = network_of(f, 1);
  EXPECT_EQ(flow_refusal(*find_algorithm("in_switch"), layout, *network, 4),
            "the devices of a node do not all hang on one switch");
  EXPECT_EQ(flow_refusal(*find_algorithm("ring"), layout, *network, 4), "");
  EXPECT_EQ(flow_refusal(*find_algorithm("in_switch"), layout, *network_of(fabric_of(4), 1), 4), "");
}

// 4,096 ranks of 512 nodes, folded and every transfer by itself.
TEST(CollectiveFlows, ThousandsOfRanksFolded) {
  const Layout layout = Layout::packed(4096, 4);
  topologies::Fabric f = fabric_of(4);
  topologies::FatTree tree;
  tree.radix = 64;
  tree.oversubscription = {2};
  f.network = tree;
  const auto network = network_of(f, 1024);
  for (const char* word : {"ring", "hierarchical"}) {
    const Algorithm& a = *find_algorithm(word);
    const Request request{Kind::all_reduce, &layout, 1};
    const FlowRounds folded = flow_rounds(a, request, Bytes{1 << 30}, *network, 4);
    FlowOptions options;
    options.fold_ranks = false;
    const FlowRounds by_one = flow_rounds(a, request, Bytes{1 << 30}, *network, 4, options);
    EXPECT_EQ(folded.time, by_one.time) << word;
    EXPECT_LE(folded.flows, 20) << word;
    EXPECT_EQ(by_one.flows, by_one.transfers) << word;
    EXPECT_EQ(folded.transfers, by_one.transfers) << word;
  }
}

}  // namespace
}  // namespace foretrain::sim::collective
