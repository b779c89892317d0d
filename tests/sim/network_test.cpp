#include "sim/network.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <tuple>

#include "base/error.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using plan::Axis;
using plan::CollectiveKind;

// Plain links: 8 devices per node, 100 GB/s and 1 us inside, 25 GB/s and 10 us outside.
topologies::Cluster plain() {
  topologies::Cluster c;
  c.name = "plain";
  c.nodes = 4;
  c.devices_per_node = 8;
  c.intra = {Bandwidth{100e9}, Time{1000000}};
  c.inter = {Bandwidth{25e9}, Time{10000000}};
  return c;
}

TEST(PlaceGroup, FollowsTheMesh) {
  plan::Mesh mesh;
  mesh.extent = {2, 4, 1, 4};  // pp, dp, cp, tp: rank = ((pp 4 + dp) 1 + cp) 4 + tp; 8 ranks to a node
  const plan::Group tp{"tp", {{Axis::tp, 0, {}}}, {}}, dp{"dp", {{Axis::dp, 0, {}}}, {}};
  const plan::Group all{"all", {{Axis::pp, 0, {}}, {Axis::dp, 0, {}}, {Axis::tp, 0, {}}}, {}};
  const GroupPlacement t = place_group(mesh, tp, 0, 8);
  EXPECT_EQ(t.ranks, 4);
  EXPECT_EQ(t.nodes, 1);
  EXPECT_EQ(t.per_node, 4);
  const GroupPlacement d = place_group(mesh, dp, 0, 8);  // ranks 0, 4, 8, 12
  EXPECT_EQ(d.ranks, 4);
  EXPECT_EQ(d.nodes, 2);
  EXPECT_EQ(d.per_node, 2);
  const GroupPlacement a = place_group(mesh, all, 0, 8);
  EXPECT_EQ(a.ranks, 32);
  EXPECT_EQ(a.nodes, 4);
  EXPECT_EQ(a.per_node, 8);
}

// Groups of 5 neighbours on nodes of 8: ranks 0-4 lie in a node, 5-9 as 3 + 2, 20-24 as 4 + 1. Across them every fifth
// of 40 ranks: 5 nodes, two members on some.
TEST(PlaceGroup, TheWidestOfARole) {
  plan::Mesh mesh;
  mesh.extent = {1, 8, 1, 5};
  const plan::Group tp{"tp", {{Axis::tp, 0, {}}}, {}}, dp{"dp", {{Axis::dp, 0, {}}}, {}};
  const plan::Group pairs{"pairs", {{Axis::dp, 2, {}}}, {}};  // ranks 0 and 5, 10 and 15, ...
  EXPECT_EQ(place_group(mesh, tp, 0, 8).nodes, 1);
  const GroupPlacement t = widest_group(mesh, tp, {}, 8);
  EXPECT_EQ(t.ranks, 5);
  EXPECT_EQ(t.nodes, 2);
  EXPECT_EQ(t.per_node, 4);
  EXPECT_EQ(t.fewest, 1);
  const GroupPlacement d = widest_group(mesh, dp, {}, 8);
  EXPECT_EQ(d.nodes, 5);
  EXPECT_EQ(d.per_node, 2);
  EXPECT_EQ(place_group(mesh, pairs, 0, 8).nodes, 1);
  EXPECT_EQ(widest_group(mesh, pairs, {}, 8).nodes, 2);
  // Of the ranks at one place on that axis: 0-4 only.
  EXPECT_EQ(widest_group(mesh, tp, {{{Axis::dp, 0}}}, 8).nodes, 1);
  // Against every rank's group, for any shape.
  for (const std::array<int, 4>& extent : {std::array{2, 3, 1, 3}, {3, 4, 1, 2}, {1, 6, 2, 3}, {4, 2, 1, 8}}) {
    mesh.extent = extent;
    for (const int devices : {1, 2, 3, 4, 8}) {
      for (const plan::Group& group : {tp, dp, plan::Group{"both", {{Axis::dp, 0, {}}, {Axis::tp, 0, {}}}, {}}}) {
        GroupPlacement widest = place_group(mesh, group, 0, devices);
        for (plan::Rank r = 1; r < mesh.ranks(); ++r) {
          const GroupPlacement p = place_group(mesh, group, r, devices);
          if (std::tuple(-p.nodes, p.fewest, p.per_node) < std::tuple(-widest.nodes, widest.fewest, widest.per_node)) {
            widest = p;
          }
        }
        const GroupPlacement found = widest_group(mesh, group, {}, devices);
        EXPECT_EQ(found.nodes, widest.nodes) << group.name << " on nodes of " << devices;
        EXPECT_EQ(found.fewest, widest.fewest) << group.name << " on nodes of " << devices;
        EXPECT_EQ(found.per_node, widest.per_node) << group.name << " on nodes of " << devices;
      }
    }
  }
}

TEST(AlphaBeta, OneRankIsFree) {
  const topologies::Cluster c = plain();
  EXPECT_EQ(make_alpha_beta(c)->collective(CollectiveKind::all_reduce, Bytes{1000}, {1, 1, 1}), 0);
}

// Ring on one node of n: all_reduce 2 (n-1) hops + 2 (n-1)/n S/B; all_gather and reduce_scatter half of both.
TEST(AlphaBeta, RingsOfOneNode) {
  const topologies::Cluster c = plain();
  const auto model = make_alpha_beta(c);
  const double s = 1e9, b = 100e9;
  for (const int n : {2, 3, 8}) {
    const GroupPlacement g{n, 1, n};
    const double ring = 2 * (n - 1) * 1e-6 + 2.0 * (n - 1) / n * s / b;
    EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{1000000000}, g), ring, 1e-12) << n;
    EXPECT_NEAR(model->collective(CollectiveKind::all_gather, Bytes{1000000000}, g), ring / 2, 1e-12) << n;
    EXPECT_NEAR(model->collective(CollectiveKind::reduce_scatter, Bytes{1000000000}, g), ring / 2, 1e-12) << n;
    EXPECT_NEAR(model->collective(CollectiveKind::broadcast, Bytes{1000000000}, g), (n - 1) * 1e-6 + s / b, 1e-12);
    EXPECT_NEAR(model->collective(CollectiveKind::all_to_all, Bytes{1000000000}, g), 1e-6 + s * (n - 1) / n / b, 1e-12);
  }
}

// At the root: 7 parts of 1 GB over the node's link; of two nodes of 4 the other's 4 through the root's adapter take
// longer than 3 over the link. A gather counts what the root ends with.
TEST(AlphaBeta, StarsAreHeldBackByTheirRoot) {
  const topologies::Cluster c = plain();
  const auto model = make_alpha_beta(c);
  const Bytes part{1'000'000'000};
  EXPECT_NEAR(model->collective(CollectiveKind::distribute, part, {8, 1, 8}), 1e-6 + 7.0 / 100, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::gather, Bytes{7 * part.value}, {8, 1, 8}), 1e-6 + 7.0 / 100, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::distribute, part, {8, 2, 4}), 10e-6 + 4.0 / 25, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::gather, Bytes{7 * part.value}, {8, 2, 4}), 10e-6 + 4.0 / 25, 1e-12);
}

// 4 nodes of 1: every member brings one NIC. 4 nodes of 8: 8 NICs, but no more than the node's own bandwidth.
TEST(AlphaBeta, RingsOverNodes) {
  const topologies::Cluster c = plain();
  const auto model = make_alpha_beta(c);
  EXPECT_NEAR(model->collective(CollectiveKind::all_gather, Bytes{1000000000}, {4, 4, 1}),
              3 * 10e-6 + 0.75 * 1e9 / 25e9, 1e-12);
  // 31 steps, 3 of them over the fabric; min(100, 8 x 25) = 100 GB/s.
  EXPECT_NEAR(model->collective(CollectiveKind::all_gather, Bytes{1000000000}, {32, 4, 8}),
              28 * 1e-6 + 3 * 10e-6 + 31.0 / 32 * 1e9 / 100e9, 1e-12);
}

// 9 ranks as 8 + 1: everything passes through the one adapter of the second node, 25 GB/s; and its rank sends 8 of its
// 9 parts out.
TEST(AlphaBeta, UnevenNodesAreBoundByTheFewestAdapters) {
  const topologies::Cluster c = plain();
  const auto model = make_alpha_beta(c);
  const GroupPlacement g{9, 2, 8, 1};
  EXPECT_NEAR(model->collective(CollectiveKind::all_gather, Bytes{1000000000}, g),
              7 * 1e-6 + 10e-6 + 8.0 / 9 * 1e9 / 25e9, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::all_to_all, Bytes{1000000000}, g), 10e-6 + 8.0 / 9 * 1e9 / 25e9, 1e-12);
}

// A small all_reduce over many nodes goes through a tree: 2 floor(log2 N) fabric hops against the ring's 2 (N-1).
TEST(AlphaBeta, SmallAllReducesTakeTheTree) {
  const topologies::Cluster c = plain();
  const auto model = make_alpha_beta(c);
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{8}, {64, 64, 1}), 2 * 6 * 10e-6 + 8 / 12.5e9, 1e-12);
}

TEST(AlphaBeta, AllToAllIsBoundByTheNicOfARank) {
  const topologies::Cluster c = plain();
  // 16 ranks on 2 nodes: 8 of 16 parts leave the node through the rank's own NIC.
  EXPECT_NEAR(make_alpha_beta(c)->collective(CollectiveKind::all_to_all, Bytes{1000000000}, {16, 2, 8}),
              10e-6 + 0.5 * 1e9 / 25e9, 1e-12);
}

// An override is taken instead of the least time; closed forms stand beside the library's ways.
TEST(AlphaBeta, Overrides) {
  const topologies::Cluster c = plain();
  const auto free = make_alpha_beta(c);
  const GroupPlacement g{64, 64, 1};
  const auto ring =
      make_alpha_beta(c, parse_collective_overrides("all_reduce=ring:simple,all_gather=halving_doubling"));
  // 126 hops of 10 us against the tree's 12.
  EXPECT_NEAR(ring->collective(CollectiveKind::all_reduce, Bytes{8}, g), 126 * 10e-6 + 8 / (25e9 * 64 / 126), 1e-12);
  EXPECT_LT(free->collective(CollectiveKind::all_reduce, Bytes{8}, g), 130e-6);
  // 6 rounds of 10 us, 63/64 of the buffer.
  EXPECT_NEAR(ring->collective(CollectiveKind::all_gather, Bytes{64000000}, g), 6 * 10e-6 + 63e6 / 25e9, 1e-11);
  EXPECT_EQ(ring->collective(CollectiveKind::reduce_scatter, Bytes{8}, g),
            free->collective(CollectiveKind::reduce_scatter, Bytes{8}, g));
  EXPECT_THROW(make_alpha_beta(c, parse_collective_overrides("all_reduce=hierarchical"))
                   ->collective(CollectiveKind::all_reduce, Bytes{8}, g),
               InputError);
}

// What is asked for by name costs the same whether or not the library would have taken it: a held protocol its own time
// at every size, an algorithm alone its curve as a whole. On H100 the library changes both within these sizes.
TEST(AlphaBeta, OverridesGrowWithBytes) {
  topologies::Cluster c = plain();
  c.profile =
      std::make_shared<const topologies::Profile>(topologies::load_profile("topologies/profiles/dgx-h100.json"));
  const auto free = make_alpha_beta(c);
  for (const char* text : {"all_reduce=tree:ll128", "all_reduce=tree:simple", "all_reduce=ring:ll", "all_reduce=tree",
                           "all_gather=ring:ll128", "all_gather=ring"}) {
    const std::vector<CollectiveOverride> overrides = parse_collective_overrides(text);
    const auto model = make_alpha_beta(c, overrides);
    const auto kind =
        overrides[0].kind == collective::Kind::all_reduce ? CollectiveKind::all_reduce : CollectiveKind::all_gather;
    for (const GroupPlacement& g : {GroupPlacement{8, 1, 8}, {16, 2, 8}, {128, 16, 8}}) {
      double before = 0;
      for (std::int64_t bytes = 1; bytes <= std::int64_t{1} << 34; bytes *= 2) {
        const double seconds = model->collective(kind, Bytes{bytes}, g);
        EXPECT_GE(seconds, before) << text << " " << g.ranks << " ranks, " << bytes;
        before = seconds;
        for (const CollectiveCandidate& w : free->candidates(overrides[0].kind, Bytes{bytes}, g)) {
          if (w.chosen && overrides[0].protocol.empty() && w.algorithm == overrides[0].algorithm) {
            EXPECT_EQ(seconds, w.seconds) << text << " " << g.ranks << " ranks, " << bytes;
          }
        }
      }
    }
  }
}

// The chosen candidate is what collective() says, for every kind, size and shape, also of a measured system; and it
// puts no more on the wires than that.
class ChosenCandidate : public ::testing::TestWithParam<const char*> {};

TEST_P(ChosenCandidate, IsTheForecast) {
  topologies::Cluster c = plain();
  c.profile =
      std::make_shared<const topologies::Profile>(topologies::load_profile("topologies/profiles/dgx-h100.json"));
  c.name = GetParam();
  const auto model = make_alpha_beta(c);
  for (const auto kind :
       {CollectiveKind::all_reduce, CollectiveKind::reduce_scatter, CollectiveKind::all_gather,
        CollectiveKind::broadcast, CollectiveKind::all_to_all, CollectiveKind::gather, CollectiveKind::distribute}) {
    for (const GroupPlacement& g : {GroupPlacement{2, 1, 2}, {8, 1, 8}, {4, 4, 1}, {16, 2, 8}, {12, 2, 8}}) {
      for (const std::int64_t bytes : {std::int64_t{0}, std::int64_t{4096}, std::int64_t{1} << 30}) {
        int chosen = 0;
        for (const CollectiveCandidate& w : model->candidates(collective::from_plan(kind), Bytes{bytes}, g)) {
          if (w.chosen) {
            ++chosen;
            EXPECT_EQ(w.seconds, model->collective(kind, Bytes{bytes}, g)) << w.algorithm << " " << bytes;
          }
        }
        EXPECT_EQ(chosen, 1) << plan::name(kind) << " " << g.ranks << " " << bytes;
        const Traffic traffic = *model->traffic(kind, Bytes{bytes}, g);
        EXPECT_GE(traffic.latency, 0);
        EXPECT_LE(traffic.latency + std::max(traffic.node_load, traffic.fabric_load),
                  model->collective(kind, Bytes{bytes}, g) * (1 + 1e-12))
            << plan::name(kind) << " " << g.ranks << " " << bytes;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(AlphaBeta, ChosenCandidate, ::testing::Values("plain", "dgx-h100", "polaris"));

TEST(AlphaBeta, Messages) {
  const topologies::Cluster c = plain();
  const auto model = make_alpha_beta(c);
  EXPECT_NEAR(model->message(Bytes{0}, true), 1e-6, 1e-15);
  EXPECT_NEAR(model->message(Bytes{25000000}, false), 10e-6 + 1e-3, 1e-12);
}

// Grid: nothing negative, more bytes never faster, also where algorithm and protocol change.
TEST(AlphaBeta, GrowsWithBytes) {
  topologies::Cluster c = plain();
  topologies::Profile p = topologies::load_profile("topologies/profiles/dgx-a100-80gb.json");
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  const auto model = make_alpha_beta(c);
  for (const auto kind : {CollectiveKind::all_reduce, CollectiveKind::reduce_scatter, CollectiveKind::all_gather,
                          CollectiveKind::broadcast, CollectiveKind::all_to_all}) {
    for (const int nodes : {1, 2, 4, 16}) {
      for (const int per_node : {1, 2, 3, 8}) {
        double before = 0;
        for (std::int64_t bytes = 0; bytes < (std::int64_t{1} << 34); bytes = bytes * 3 + 1) {
          const double t = model->collective(kind, Bytes{bytes}, {nodes * per_node, nodes, per_node});
          EXPECT_TRUE(std::isfinite(t));
          // A change of protocol may take back the pipelining cost of the one before, at most 2 kappa sqrt.
          EXPECT_GE(t, 0.5 * before);
          before = t;
        }
      }
    }
  }
}

topologies::Cluster measured() {
  topologies::Cluster c = plain();
  c.this_machine = true;
  topologies::Profile p;
  p.measured.cores = 4;
  p.measured.collectives = {{"all_reduce", 2, 1000, 1e-6},
                            {"all_reduce", 2, 1000000, 1e-3},
                            {"all_reduce", 4, 1000, 3e-6},
                            {"all_gather", 2, 1000, 2e-6}};
  p.measured.exchanges = {{100, 1e-6}, {10000, 1e-4}};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

TEST(MeasuredNetwork, InterpolatesBytesAndRanks) {
  const topologies::Cluster c = measured();
  const auto model = make_network_model("auto", c);
  EXPECT_EQ(model->name(), "measured");
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{1000}, {2, 1, 2}), 1e-6, 1e-18);
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{1000}, {3, 1, 3}), 2e-6, 1e-18);
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{1000}, {8, 1, 8}), 6e-6, 1e-18);
  EXPECT_NEAR(model->collective(CollectiveKind::broadcast, Bytes{1000}, {2, 1, 2}), 2e-6, 1e-18);  // as all_gather
  EXPECT_NEAR(model->message(Bytes{1000}, true), 1e-5, 1e-16);  // half way in logarithms
}

// Ranks that share a GPU exchange by its memory, those with one each by a library: each has its table.
TEST(MeasuredNetwork, KnowsRanksWithAGpuEach) {
  topologies::Cluster c = measured();
  c.is_gpu = true;
  topologies::Profile p = *c.profile;
  p.measured.collectives.push_back({"all_reduce", 2, 1000, 7e-6, true});
  p.measured.exchanges.push_back({1000, 8e-6, true});
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  c.devices_per_node = 1;
  const auto together = make_network_model("measured", c);
  EXPECT_NEAR(together->collective(CollectiveKind::all_reduce, Bytes{1000}, {2, 1, 2}), 1e-6, 1e-18);
  EXPECT_NEAR(together->message(Bytes{1000}, true), 1e-5, 1e-16);
  c.devices_per_node = 2;
  const auto apart = make_network_model("measured", c);
  EXPECT_NEAR(apart->collective(CollectiveKind::all_reduce, Bytes{1000}, {2, 1, 2}), 7e-6, 1e-18);
  EXPECT_NEAR(apart->message(Bytes{1000}, true), 8e-6, 1e-16);
}

// Two of more ranks than there are cores sleep while they wait, and share the cores as they did when they were
// measured.
TEST(MeasuredNetwork, KnowsMoreRanksThanCores) {
  topologies::Cluster c = measured();
  c.nodes = 1;
  c.devices_per_node = 4;
  topologies::Profile p = *c.profile;
  p.measured.collectives.push_back({"all_reduce", 2, 1000, 9e-6, false, true});
  p.measured.exchanges.push_back({1000, 6e-6, false, true});
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  const auto roomy = make_network_model("measured", c, {}, 4);
  EXPECT_NEAR(roomy->collective(CollectiveKind::all_reduce, Bytes{1000}, {2, 1, 2}), 1e-6, 1e-18);
  EXPECT_NEAR(roomy->message(Bytes{1000}, true), 1e-5, 1e-16);
  const auto crowded = make_network_model("measured", c, {}, 5);
  EXPECT_NEAR(crowded->collective(CollectiveKind::all_reduce, Bytes{1000}, {2, 1, 2}), 9e-6, 1e-18);
  EXPECT_NEAR(crowded->collective(CollectiveKind::all_reduce, Bytes{1000}, {4, 1, 4}), 3e-6, 1e-18);
  EXPECT_NEAR(crowded->message(Bytes{1000}, true), 6e-6, 1e-16);
  EXPECT_EQ(crowded->slowdown(Bytes{1000}, 2, 5), 1);
}

}  // namespace
}  // namespace foretrain::sim
