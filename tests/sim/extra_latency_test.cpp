// Latency of long links and of further switches, by hand; and what a step takes of it.
#include "sim/extra_latency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "sim/network.h"
#include "tests/sim/tiny_graph.h"
#include "topologies/fabric.h"

namespace foretrain::sim {
namespace {

using collective::Kind;
using plan::Axis;
using plan::CollectiveKind;
using plan::Rank;

constexpr double kLink = 600e-12;  // of the long link, s

topologies::Cluster cluster_on(topologies::Fabric fabric, int nodes, int devices) {
  topologies::Cluster c = clockwork(devices);
  c.nodes = nodes;
  fabric.node.devices = fabric.node.adapters = devices;
  fabric.node.bandwidth = c.intra.bandwidth;
  fabric.node.adapter_bandwidth = c.inter.bandwidth;
  c.fabric = std::make_shared<const topologies::Fabric>(std::move(fabric));
  return c;
}

topologies::Cluster two_sites(int nodes, int devices, Time latency = Time{600}) {
  topologies::Fabric fabric;
  fabric.sites = {2, {1e12}, latency};
  return cluster_on(fabric, nodes, devices);
}

// Leaves of two nodes of one device below two spines.
topologies::Cluster leaves_of_two(int nodes, Time switch_latency) {
  topologies::Fabric fabric;
  topologies::FatTree tree;
  tree.radix = 4;
  tree.tiers = 2;
  fabric.network = tree;
  fabric.switch_latency = switch_latency;
  return cluster_on(fabric, nodes, 1);
}

std::vector<Rank> first_ranks(int n) {
  std::vector<Rank> ranks(static_cast<std::size_t>(n));
  std::iota(ranks.begin(), ranks.end(), Rank{0});
  return ranks;
}

void expect_links(const ExtraLatency& e, double once, double twice, double tree, double farthest, double link = kLink) {
  EXPECT_NEAR(e.once, once * link, 1e-18);
  EXPECT_NEAR(e.twice, twice * link, 1e-18);
  EXPECT_NEAR(e.tree, tree * link, 1e-18);
  EXPECT_NEAR(e.farthest, farthest * link, 1e-18);
}

// Nodes 0 and 1 | 2 and 3. Hops of the ring: 0, L, 0, L. Once round but for one hop within a site: 2 L. Twice round but
// for two hops in a row, 0 and L: 4 L - L. Tree 1 -> 2 -> 0: over and back, 2 L, and so the mirrored one.
TEST(LongRoutes, ARingOverFourNodesOfTwoSites) {
  const LongRoutes routes(two_sites(4, 1));
  ASSERT_TRUE(routes.any());
  EXPECT_EQ(routes.between(0, 1), 0);
  EXPECT_NEAR(routes.between(0, 2), kLink, 1e-18);
  EXPECT_NEAR(routes.between(3, 1), kLink, 1e-18);
  expect_links(routes.of(first_ranks(4)), 2, 3, 2, 1);
  const std::vector<Rank> across{1, 2};  // hops L, L: one of them, twice one of them
  expect_links(routes.of(across), 1, 2, 1, 1);
  expect_links(routes.of(first_ranks(2)), 0, 0, 0, 0);
  const std::vector<Rank> alone{3};
  expect_links(routes.of(alone), 0, 0, 0, 0);
}

// Two devices per node: a chunk that skips a hop inside a node crosses both long links, in each round.
TEST(LongRoutes, HopsInsideNodesAreTheOnesLeftOut) {
  const LongRoutes routes(two_sites(4, 2));
  expect_links(routes.of(first_ranks(8)), 2, 4, 2, 1);
  // Ranks 0, 1 | 4: hops 0, L, L. Two in a row with the least: the one inside and an L.
  const std::vector<Rank> uneven{0, 1, 4};
  expect_links(routes.of(uneven), 2, 3, 1, 1);
  const std::vector<Rank> pair{2, 3};
  expect_links(routes.of(pair), 0, 0, 0, 0);
}

// Leaf, spine, leaf: two switches more than one. The ring 0 1 | 2 3 has the hops 0, 2 s, 0, 2 s.
TEST(LongRoutes, FurtherSwitches) {
  const LongRoutes routes(leaves_of_two(4, Time{50}));
  EXPECT_EQ(routes.between(0, 1), 0);
  EXPECT_NEAR(routes.between(0, 3), 100e-12, 1e-18);
  expect_links(routes.of(first_ranks(4)), 2, 3, 2, 1, 100e-12);
}

TEST(LongRoutes, NoneWhereBothFiguresAreNought) {
  EXPECT_FALSE(LongRoutes(clockwork(8)).any());
  EXPECT_FALSE(LongRoutes(two_sites(4, 2, Time{})).any());
  EXPECT_FALSE(LongRoutes(leaves_of_two(4, Time{})).any());
  topologies::Cluster one_node = two_sites(1, 8);
  EXPECT_FALSE(LongRoutes(one_node).any());
}

// Step by step: in step s + 1 a rank hands on what it got in step s, in order. When the last rank has its last.
double ring_by_steps(const LongRoutes& routes, const std::vector<Rank>& members, std::size_t steps) {
  const std::size_t n = members.size();
  std::vector<double> got(n, 0);
  for (std::size_t s = 0; s < steps; ++s) {
    std::vector<double> next = got;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t to = (i + 1) % n;
      next[to] = std::max(got[to], got[i] + routes.between(members[i], members[to]));
    }
    got = next;
  }
  return *std::max_element(got.begin(), got.end());
}

// Groups of any ranks, on up to four sites and on leaves.
TEST(LongRoutes, RingsAsStepByStep) {
  std::mt19937_64 random(7);
  for (int trial = 0; trial < 400; ++trial) {
    const int devices = 1 + static_cast<int>(random() % 4), sites = 1 + static_cast<int>(random() % 4);
    const int nodes = sites * (1 + static_cast<int>(random() % 5));
    topologies::Fabric fabric = *leaves_of_two(4, Time{50}).fabric;
    if (sites > 1) {
      fabric.sites = {sites, {1e12}, Time{static_cast<std::int64_t>(random() % 1000)}};
    }
    topologies::FatTree tree;
    tree.radix = 32;
    tree.leaf_ports = devices * (1 + static_cast<int>(random() % 2));
    fabric.network = tree;
    const LongRoutes routes(cluster_on(fabric, nodes, devices));
    std::vector<Rank> members;
    for (Rank r = 0; r < nodes * devices; ++r) {
      if (random() % 3 > 0) {
        members.push_back(r);
      }
    }
    if (!routes.any() || members.size() < 2) {
      continue;
    }
    const std::size_t once = members.size() - 1;
    EXPECT_NEAR(routes.of(members).once, ring_by_steps(routes, members, once), 1e-18) << trial;
    EXPECT_NEAR(routes.of(members).twice, ring_by_steps(routes, members, 2 * once), 1e-18) << trial;
  }
}

// Of a role's groups the one that crosses counts: ranks 0 1 | 2 3, along dp (0, 1) and (2, 3), along pp (0, 2), (1, 3).
TEST(LongRoutes, TheGroupWithMostOfARole) {
  const LongRoutes routes(two_sites(4, 1));
  plan::Mesh mesh;
  mesh.extent = {2, 2, 1, 1};
  const plan::Group dp{"dp", {{Axis::dp, 0, {}}}, {}}, pp{"pp", {{Axis::pp, 0, {}}}, {}};
  expect_links(routes.of(mesh, dp, {}), 0, 0, 0, 0);
  expect_links(routes.of(mesh, pp, {}), 1, 2, 1, 1);
  EXPECT_NEAR(routes.of_messages(mesh, {{{Axis::pp, 0}}}, {true, Axis::pp, 1}), kLink, 1e-18);
  EXPECT_EQ(routes.of_messages(mesh, {{{Axis::dp, 0}}}, {true, Axis::dp, 1}), 0);
  mesh.extent = {1, 3, 1, 1};  // on 6 nodes of 1: 0 1 2 all on the first site
  expect_links(LongRoutes(two_sites(6, 1)).of(mesh, dp, {}), 0, 0, 0, 0);
  mesh.extent = {1, 4, 1, 1};
  const plan::Group pairs{"pairs", {{Axis::dp, 2, {}}}, {}};
  expect_links(LongRoutes(two_sites(4, 1)).of(mesh, pairs, {}), 0, 0, 0, 0);
  // On 4 nodes 0 and 1, 2 and 3 are pairs; on sites of one node each of them crosses.
  mesh.extent = {1, 2, 1, 1};
  expect_links(LongRoutes(two_sites(2, 1)).of(mesh, pairs, {}), 1, 2, 1, 1);
}

// Every way to do it takes as much more as the card says, whatever the size; and never less with a longer link.
TEST(LongRoutes, TimesGrowByTheExtraAndWithIt) {
  for (const int devices : {1, 2, 8}) {
    topologies::Cluster c = two_sites(4, devices);
    const auto model = make_alpha_beta(c);
    GroupPlacement near{4 * devices, 4, devices};
    for (const CollectiveKind kind : {CollectiveKind::all_reduce, CollectiveKind::all_gather,
                                      CollectiveKind::reduce_scatter, CollectiveKind::all_to_all}) {
      for (const std::int64_t bytes : {0LL, 1LL, 1000LL, 1000000000LL}) {
        double before = model->collective(kind, Bytes{bytes}, near);
        const auto without = model->candidates(collective::from_plan(kind), Bytes{bytes}, near);
        for (const std::int64_t ps : {1LL, 1000LL, 5000000000LL, 1000000000000LL}) {
          GroupPlacement far = near;
          far.extra = LongRoutes(two_sites(4, devices, Time{ps})).of(first_ranks(far.ranks));
          const double after = model->collective(kind, Bytes{bytes}, far);
          EXPECT_GE(after, before);
          before = after;
          const auto with = model->candidates(collective::from_plan(kind), Bytes{bytes}, far);
          ASSERT_EQ(with.size(), without.size());
          for (std::size_t i = 0; i < with.size(); ++i) {
            EXPECT_EQ(with[i].chosen, without[i].chosen);
            if (with[i].disabled.empty()) {
              const double extra = extra_seconds(collective::from_plan(kind), with[i].algorithm, far.extra, far.nodes);
              EXPECT_GT(extra, 0);
              EXPECT_NEAR(with[i].seconds, without[i].seconds + extra, 1e-12 * (1 + extra)) << with[i].algorithm;
            }
          }
        }
      }
    }
  }
}

// Measured constants get the same on top.
TEST(LongRoutes, OnTopOfMeasuredConstants) {
  topologies::Cluster c = two_sites(4, 8);
  c.name = "dgx-a100-80gb";
  const auto model = make_alpha_beta(c);
  GroupPlacement near{32, 4, 8}, far = near;
  far.extra = {0.1, 0.2, 0.3, 0.4};
  const Bytes bytes{1 << 30};
  EXPECT_NEAR(model->collective(CollectiveKind::all_gather, bytes, far),
              model->collective(CollectiveKind::all_gather, bytes, near) + 0.1, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::all_to_all, bytes, far),
              model->collective(CollectiveKind::all_to_all, bytes, near) + 0.4, 1e-12);
  const auto alone = model->traffic(CollectiveKind::all_gather, bytes, near),
             with = model->traffic(CollectiveKind::all_gather, bytes, far);
  EXPECT_NEAR(with->latency, alone->latency + 0.1, 1e-12);
  EXPECT_EQ(with->fabric_load, alone->fabric_load);
}

plan::PlanGraph sent(int dp, bool dp_slowest) {
  plan::PlanGraph g = stages(2);
  g.mesh.extent[static_cast<std::size_t>(Axis::dp)] = dp;
  if (dp_slowest) {
    g.mesh.order = {Axis::dp, Axis::pp, Axis::cp, Axis::tp};
  }
  g.tags = {"x"};
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  return g;
}

Time end_on(const plan::PlanGraph& g, const topologies::Cluster& c, const char* network) {
  Options options;
  options.network_model = network;
  return end_of(g, c, options);
}

// Ranks 0 and 1 | 2 and 3. 100 bytes at a byte per picosecond after 10 ps of work; over the long link 600 more, and
// two of them share it.
TEST(LongLinks, AMessage) {
  for (const char* network : {"alpha_beta", "fair_share", "auto"}) {
    EXPECT_EQ(end_on(sent(1, false), two_sites(2, 1), network), Time{710});
    EXPECT_EQ(end_on(sent(1, false), two_sites(2, 1, Time{}), network), Time{110});
    EXPECT_EQ(end_on(sent(2, true), two_sites(4, 1), network), Time{110});  // within the sites
  }
  EXPECT_EQ(end_on(sent(2, false), two_sites(4, 1), "alpha_beta"), Time{710});
  EXPECT_EQ(end_on(sent(2, false), two_sites(4, 1), "fair_share"), Time{810});
  EXPECT_EQ(end_on(sent(1, false), leaves_of_two(2, Time{50}), "fair_share"), Time{110});  // below one leaf
  EXPECT_EQ(end_on(sent(2, false), leaves_of_two(4, Time{50}), "alpha_beta"), Time{210});
}

// A sum of 100 bytes over four ranks: 2 x 3/4 x 100 ps, and three long links on the way. Within a site it is none.
TEST(LongLinks, ACollective) {
  plan::PlanGraph g = stages(1);
  g.mesh.extent[static_cast<std::size_t>(Axis::dp)] = 4;
  g.tags = {"sum"};
  g.groups = {{"replicas", {{Axis::dp, 0, {}}}, {}}};
  plan::Op op;
  op.work = plan::Collective{CollectiveKind::all_reduce, 0, 100, Dtype::u8, plan::Reduction::sum, 0};
  op.stream = 1;
  op.after = {0};
  append(g.roles[0], {work(10), op});
  for (const char* network : {"alpha_beta", "fair_share"}) {
    EXPECT_EQ(end_on(g, two_sites(4, 1), network), Time{10 + 150 + 3 * 600});
    EXPECT_EQ(end_on(g, two_sites(4, 1, Time{}), network), Time{160});
  }
  g.groups = {{"pairs", {{Axis::dp, 2, {}}}, {}}};
  EXPECT_EQ(end_on(g, two_sites(4, 1), "fair_share"), Time{110});
}

}  // namespace
}  // namespace foretrain::sim
