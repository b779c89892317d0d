// Meetings as flows: alone as the closed form says; shared links derived by hand; folded as every rank by itself.
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "sim/flow_network.h"
#include "sim/job_classes.h"
#include "sim/traffic.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"
#include "topologies/fabric.h"

namespace foretrain::sim {
namespace {

using Overrides = std::vector<std::string>;

// ---- alone

// latency + ceil(bytes / cap) is the duration, whatever the numbers; bytes fit between 0 and what the unit moves.
TEST(AloneFlow, TakesTheDurationToThePicosecond) {
  topologies::Cluster c = clockwork(8);
  std::mt19937_64 random(5);
  for (const double bandwidth : {1e9, 12.5e9, 24999999999.7, 50e9, 450e9, 1e18}) {
    c.intra.bandwidth = c.inter.bandwidth = Bandwidth{bandwidth};
    for (const std::int64_t ps : {0L, 1L, 2L, 999L, 123456789L, 1000000007L, 98765432101234L}) {
      for (const double latency : {0.0, 1e-12, 0.5, 1.0, 2.0}) {
        for (const double load : {0.0, 1e-9, 0.3, 1.0, 1.5}) {
          const double s = static_cast<double>(ps) * 1e-12;
          for (const bool leaves : {true, false}) {
            const double seconds = load * s * (1 - std::min(1.0, latency));
            const MeetingTraffic t =
                make_traffic(Pattern::ring, Time{ps}, {latency * s, leaves ? 0 : seconds, leaves ? seconds : 0}, c);
            EXPECT_GE(t.flow.latency.value, 0);
            EXPECT_LE(t.flow.cap, t.shape.unit);
            if (t.flow.bytes.value == 0) {
              EXPECT_EQ(t.flow.latency, Time{ps});
              continue;
            }
            FlowNetwork network({});
            FlowSpec flow;
            flow.bytes = t.flow.bytes;
            flow.latency = t.flow.latency;
            flow.cap = t.flow.cap;
            const Time start{static_cast<std::int64_t>(random() % 1000000007)};
            network.start(flow, start);
            while (!network.empty()) {
              const Time now = network.next();
              if (!network.advance(now).empty()) {
                EXPECT_EQ(now - start, Time{ps}) << bandwidth << " " << ps << " " << latency << " " << load;
              }
            }
          }
        }
      }
    }
  }
}

using Streams = std::vector<std::tuple<plan::Rank, plan::Rank, std::int64_t>>;

Streams streams_of(Pattern pattern, const std::vector<plan::Rank>& members, int devices_per_node,
                   std::int32_t node_use = kWholeUse / 2) {
  std::vector<Stream> streams;
  add_streams(
      {pattern, 1, node_use, kWholeUse}, members, devices_per_node, [](plan::Rank) { return true; }, streams);
  Streams result;
  for (const Stream& s : streams) {
    result.emplace_back(s.from, s.to, s.use);
  }
  return result;
}

// Nodes {0, 1}, {4, 5}: rings within, and rail by rail between.
TEST(Streams, RingsRunRailByRail) {
  constexpr std::int64_t kHalf = kWholeUse / 2;
  EXPECT_EQ(streams_of(Pattern::ring, {0, 1, 4, 5}, 4), (Streams{{0, 1, kHalf},
                                                                 {1, 0, kHalf},
                                                                 {0, 4, kWholeUse},
                                                                 {1, 5, kWholeUse},
                                                                 {4, 5, kHalf},
                                                                 {5, 4, kHalf},
                                                                 {4, 0, kWholeUse},
                                                                 {5, 1, kWholeUse}}));
  // One member per node: one ring over the nodes. Alone: nothing.
  EXPECT_EQ(streams_of(Pattern::ring, {0, 4, 8}, 4),
            (Streams{{0, 4, kWholeUse}, {4, 8, kWholeUse}, {8, 0, kWholeUse}}));
  EXPECT_EQ(streams_of(Pattern::ring, {3}, 4), Streams{});
  EXPECT_EQ(streams_of(Pattern::ring, {3}, 4, 0), Streams{});
}

// Of {0, 1}, {4}: a member's streams out of its node make up one adapter, those inside one half of it.
TEST(Streams, AllToAllGoesToEveryone) {
  constexpr std::int64_t kHalf = kWholeUse / 2;
  EXPECT_EQ(
      streams_of(Pattern::all_to_all, {0, 1, 4}, 4),
      (Streams{{0, 1, kHalf}, {0, 4, kWholeUse}, {1, 0, kHalf}, {1, 4, kWholeUse}, {4, 0, kHalf}, {4, 1, kHalf}}));
  EXPECT_EQ(streams_of(Pattern::message, {4, 0}, 4), (Streams{{4, 0, kWholeUse}}));
}

// ---- folded as unfolded

topologies::Cluster cluster_of(const plan::PlanGraph& g, int devices, topologies::Fabric fabric) {
  topologies::Cluster c = clockwork(devices);
  c.nodes = (g.mesh.ranks() + devices - 1) / devices;
  c.device.memory_bandwidth = Bandwidth{3e11};
  c.device.peak[Dtype::bf16] = FlopRate{7e12};
  c.intra = {Bandwidth{1e11}, Time{900}};
  c.inter = {Bandwidth{2e9}, Time{12345}};
  fabric.node.devices = fabric.node.adapters = devices;
  fabric.node.bandwidth = c.intra.bandwidth;
  fabric.node.latency = c.intra.latency;
  fabric.node.adapter_bandwidth = c.inter.bandwidth;
  fabric.latency = c.inter.latency;
  c.fabric = std::make_shared<const topologies::Fabric>(std::move(fabric));
  return c;
}

plan::PlanGraph graph_of(Overrides overrides) {
  overrides.insert(overrides.begin(), {"workload.model.layers=8", "workload.model.heads=8", "workload.model.hidden=64",
                                       "workload.model.head_dim=8", "precision=bf16", "global_batch=16"});
  return plan::build(testing::tiny_job(testing::kTinyGpt, overrides));
}

Simulation run(const plan::PlanGraph& g, const topologies::Cluster& c, bool ranks = true, bool time = true,
               const char* network = "fair_share") {
  Options o = patient();
  o.network_model = network;
  o.fold_ranks = ranks;
  o.fold_time = time;
  return simulate(g, c, o);
}

topologies::Fabric tree(int rails, int radix, double oversubscription, topologies::Routing routing, int tiers = 0) {
  topologies::Fabric f;
  topologies::FatTree t;
  t.rails = rails;
  t.radix = radix;
  t.tiers = tiers;
  t.oversubscription = {oversubscription};
  f.network = t;
  f.routing = routing;
  return f;
}

std::vector<topologies::Fabric> fabrics() {
  using topologies::Routing;
  std::vector<topologies::Fabric> all{{},
                                      tree(1, 8, 1, Routing::sprayed),
                                      tree(4, 8, 1, Routing::sprayed),
                                      tree(1, 12, 2, Routing::sprayed),
                                      tree(4, 12, 2, Routing::sprayed),
                                      tree(1, 8, 1, Routing::hashed)};
  topologies::Fabric dragonfly, torus;
  dragonfly.network = topologies::Dragonfly{4, 4, 8, {}, {}};
  torus.network = topologies::Torus{{4, 4}, 16, Bandwidth{1e9}};
  all.push_back(dragonfly);
  all.push_back(torus);
  return all;
}

const std::vector<Overrides>& strategies() {
  static const std::vector<Overrides> all = {
      {"dp=8"},
      {"pp=8"},
      {"dp=8", "tp=2", "sequence_parallel=true", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
      {"dp=4", "tp=4", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true", "bucket_bytes=20 kB"},
      {"dp=2", "pp=4", "schedule=interleaved", "virtual_stages=2"},
      {"dp=2", "pp=4", "tp=4", "zero=1", "sequence_parallel=true", "recompute=full", "overlap_grad_reduce=true"},
      {"dp=4", "tp=2", "pp=4", "schedule=interleaved", "virtual_stages=2", "overlap_grad_reduce=true",
       "rank_order=\"tp,pp,dp,cp\""},
      {"dp=8", "pp=4", "schedule=gpipe", "rank_order=\"dp,pp,cp,tp\""},
      {"dp=6", "tp=2", "pp=2", "global_batch=12"},
  };
  return all;
}

void expect_same(const Simulation& x, const Simulation& y) {
  EXPECT_EQ(x.step_ends, y.step_ends);
  ASSERT_EQ(x.breakdown.size(), y.breakdown.size());
  for (std::size_t r = 0; r < x.breakdown.size(); ++r) {
    EXPECT_EQ(x.breakdown[r].compute, y.breakdown[r].compute) << r;
    EXPECT_EQ(x.breakdown[r].exposed_tp, y.breakdown[r].exposed_tp) << r;
    EXPECT_EQ(x.breakdown[r].exposed_dp, y.breakdown[r].exposed_dp) << r;
    EXPECT_EQ(x.breakdown[r].exposed_pp, y.breakdown[r].exposed_pp) << r;
    EXPECT_EQ(x.breakdown[r].bubble, y.breakdown[r].bubble) << r;
    EXPECT_EQ(x.breakdown[r].total(), x.step_time) << r;
  }
}

TEST(FairShareNetwork, FoldedAsEveryRankByItself) {
  int contended = 0, folded_away = 0, folded_time = 0, slowed = 0;
  for (const Overrides& s : strategies()) {
    const plan::PlanGraph g = graph_of(s);
    const std::vector<topologies::Fabric> all = fabrics();
    for (std::size_t f = 0; f < all.size(); ++f) {
      for (const int devices : {4, 8}) {
        const bool shares = (f + static_cast<std::size_t>(devices) / 4) % 2 == 0;
        SCOPED_TRACE(::testing::PrintToString(s) + " fabric " + std::to_string(f) + " of nodes of " +
                     std::to_string(devices) + (shares ? ", devices shared" : ""));
        topologies::Cluster c = cluster_of(g, devices, all[f]);
        if (shares) {
          share_devices(c, 4e-8);
        }
        const Simulation alone = run(g, c, false, false);
        EXPECT_EQ(alone.classes.size(), static_cast<std::size_t>(g.mesh.ranks()));
        const Simulation folded = run(g, c, true, false);
        expect_same(alone, folded);
        const Simulation both = run(g, c);
        expect_same(alone, both);
        if (f < 3 && devices == 8) {
          expect_same(alone, run(g, c, false, true));
        }
        folded_time += both.folded_time ? 1 : 0;
        slowed += both.folded_time && shares && both.breakdown[0].exposed_dp.value > 0 ? 1 : 0;
        contended += run(g, c, true, true, "alpha_beta").step_time != folded.step_time ? 1 : 0;
        folded_away += folded.classes.size() < alone.classes.size() ? 1 : 0;
      }
    }
  }
  // All of it was seen.
  EXPECT_GT(contended, 50);
  EXPECT_GT(folded_away, 100);
  EXPECT_GT(folded_time, 100);
  EXPECT_GT(slowed, 30);
}

// Two sites with a thin link between them, and switches that take time: the latency is in every flow.
TEST(FairShareNetwork, LongLinksFoldedAsEveryRankByItself) {
  int longer = 0;
  for (const Overrides& s : strategies()) {
    const plan::PlanGraph g = graph_of(s);
    Time last{};
    for (const Time latency : {Time{}, Time{3'000'000}, Time{1'000'000'000}}) {
      SCOPED_TRACE(::testing::PrintToString(s) + " latency " + to_string(latency));
      topologies::Fabric f = tree(1, 8, 1, topologies::Routing::sprayed);
      f.sites = {2, {4e9}, latency};
      f.switch_latency = {latency.value / 4};
      const topologies::Cluster c = cluster_of(g, 4, f);
      const Simulation alone = run(g, c, false, false);
      expect_same(alone, run(g, c, true, false));
      expect_same(alone, run(g, c));
      longer += alone.step_time > last ? 1 : 0;
      last = alone.step_time;
    }
  }
  EXPECT_EQ(longer, 3 * static_cast<int>(strategies().size()));
}

// One degraded cable, one flow of somebody else: only what they touch comes apart.
TEST(FairShareNetwork, DisturbedFoldedAsEveryRankByItself) {
  for (const Overrides& s : strategies()) {
    const plan::PlanGraph g = graph_of(s);
    const std::vector<topologies::Fabric> all = fabrics();
    for (const std::size_t f : {0U, 1U, 3U}) {
      SCOPED_TRACE(::testing::PrintToString(s) + " fabric " + std::to_string(f));
      topologies::Cluster c = cluster_of(g, 4, all[f]);
      const std::int64_t last = g.mesh.ranks() - 1;
      c.disturbance.background = {{0, last, Bandwidth{1e9}}};
      c.disturbance.links = {{last, 0, "adapter up", 0.7}};
      const Simulation alone = run(g, c, false, false);
      expect_same(alone, run(g, c, true, false));
      expect_same(alone, run(g, c));
    }
  }
}

// Hashed routes of 512 ranks leave next to none of them alike.
TEST(FairShareNetwork, AutoSpraysWhatItCannotFold) {
  const plan::PlanGraph g = graph_of({"dp=64", "pp=8", "global_batch=64"});
  const topologies::Cluster hashed = cluster_of(g, 4, tree(1, 24, 2, topologies::Routing::hashed));
  const topologies::Cluster sprayed = cluster_of(g, 4, tree(1, 24, 2, topologies::Routing::sprayed));
  const Simulation s = run(g, hashed, true, true, "auto");
  EXPECT_EQ(s.links_seen, LinksSeen::sprayed);
  EXPECT_LE(s.classes.size(), kMostClasses);
  expect_same(run(g, sprayed), s);
  EXPECT_EQ(run(g, sprayed, true, true, "auto").links_seen, LinksSeen::as_they_are);
  const Simulation whole = run(g, hashed);
  EXPECT_EQ(whole.links_seen, LinksSeen::as_they_are);
  EXPECT_GT(whole.classes.size(), kMostClasses);
  EXPECT_GE(whole.step_time, s.step_time);
}

}  // namespace
}  // namespace foretrain::sim
