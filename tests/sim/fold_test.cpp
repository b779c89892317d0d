// Folded and event-driven simulations of one graph are the same to the picosecond, and timelines are valid.
#include "sim/fold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "plan/build.h"
#include "plan/validate.h"
#include "sim/compute_model.h"
#include "sim/device_share.h"
#include "sim/network.h"
#include "sim/role_model.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

using Overrides = std::vector<std::string>;

// `folds`: time must fold; else it may, and events may decide. On shared devices it cannot without the classes: then
// every collective meets others.
// Returns whether time folded.
bool expect_same(const plan::PlanGraph& g, const topologies::Cluster& c, int steps, const Overrides& what,
                 bool folds = true, const char* network = "auto") {
  const bool shares = !sharing_figures(c).node_blocks.empty() && g.mesh.ranks() > 1;
  Options options = patient();
  options.steps = steps;
  options.network_model = network;
  const Simulation folded = simulate(g, c, options);
  EXPECT_TRUE(folded.folded_time || !folds) << ::testing::PrintToString(what);
  EXPECT_EQ(folded.classes.size(), g.roles.size());
  for (const bool ranks : {true, false}) {
    for (const bool time : {true, false}) {
      options.fold_ranks = ranks;
      options.fold_time = time;
      const Simulation other = simulate(g, c, options);
      SCOPED_TRACE(::testing::PrintToString(what) + (ranks ? ", ranks folded" : "") + (time ? ", time folded" : ""));
      if (folds && (ranks || !shares)) {
        EXPECT_EQ(other.folded_time, time && folded.folded_time);
      }
      EXPECT_EQ(other.classes.size(), ranks ? g.roles.size() : static_cast<std::size_t>(g.mesh.ranks()));
      EXPECT_EQ(folded.step_ends, other.step_ends);
      EXPECT_EQ(folded.step_time, other.step_time);
      EXPECT_EQ(folded.breakdown.size(), other.breakdown.size());
      for (std::size_t r = 0; r < std::min(folded.breakdown.size(), other.breakdown.size()); ++r) {
        const plan::Breakdown &x = folded.breakdown[r], &y = other.breakdown[r];
        EXPECT_EQ(x.compute, y.compute) << r;
        EXPECT_EQ(x.recompute, y.recompute) << r;
        EXPECT_EQ(x.exposed_tp, y.exposed_tp) << r;
        EXPECT_EQ(x.exposed_dp, y.exposed_dp) << r;
        EXPECT_EQ(x.exposed_pp, y.exposed_pp) << r;
        EXPECT_EQ(x.exposed_cp, y.exposed_cp) << r;
        EXPECT_EQ(x.bubble, y.bubble) << r;
        EXPECT_EQ(x.optimizer, y.optimizer) << r;
        EXPECT_EQ(x.host, y.host) << r;
        EXPECT_EQ(x.total(), folded.step_time) << r;
      }
    }
  }
  return folded.folded_time;
}

plan::PlanGraph graph_of(const char* text, Overrides overrides, topologies::Cluster& cluster) {
  overrides.insert(overrides.end(), {"precision=bf16"});
  const plan::Job job = testing::tiny_job(text, overrides);
  cluster = clockwork(2);
  cluster.nodes = job.strategy.ranks();
  cluster.device.memory_bandwidth = Bandwidth{3e11};
  cluster.device.peak[Dtype::bf16] = FlopRate{7e12};
  cluster.inter.bandwidth = Bandwidth{4e10};
  cluster.host = {Bandwidth{5e9}, Bandwidth{2e10}};
  cluster.intra.latency = Time{900};
  cluster.inter.latency = Time{12345};
  return plan::build(job);
}

const std::vector<Overrides>& all_strategies() {
  static const std::vector<Overrides> strategies = {
      {},
      {"dp=2"},
      {"dp=2", "overlap_grad_reduce=true", "bucket_bytes=1 B"},
      {"dp=4", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true", "bucket_bytes=20 kB"},
      {"dp=2", "zero=1", "zero_kind=owners"},
      {"dp=4", "data_parallel=gather", "overlap_grad_reduce=true", "bucket_bytes=20 kB"},
      {"dp=2", "pp=2", "tp=2", "data_parallel=gather"},
      {"dp=4", "data_parallel=all_gather", "overlap_grad_reduce=true"},
      {"dp=4", "data_parallel=parameter_server", "servers=2"},
      {"dp=2", "data_parallel=parameter_server", "servers=2", "overlap_grad_reduce=true"},
      {"dp=2", "data_parallel=parameter_server", "servers=2", "server_replicas=1"},
      {"dp=2", "data_parallel=parameter_server", "servers=1", "server_replicas=1", "overlap_grad_reduce=true"},
      {"dp=2", "zero=2", "overlap_grad_reduce=false"},
      {"dp=2", "zero=1", "offload=[\"optimizer\"]", "overlap_param_gather=true", "bucket_bytes=20 kB"},
      {"pp=2", "tp=2", "offload=[\"optimizer\"]"},
      {"pp=2", "dp=2", "offload=[\"activations\"]"},
      {"dp=4", "zero=3", "shard=2"},
      {"dp=2", "pp=2", "zero=3", "reshard=false"},
      {"tp=4", "sequence_parallel=true"},
      {"tp=4", "sequence_parallel=true", "overlap_tp=false"},
      {"tp=2", "pp=3", "scatter_gather=true", "overlap_tp=false"},
      {"tp=2", "fused_grad_accumulation=false"},
      {"tp=2", "pp=2", "dp=2", "loss_chunks=4", "zero=2"},
      {"tp=2", "recompute=full", "recompute_early_stop=true"},
      {"pp=2"},
      {"pp=4", "schedule=gpipe"},
      {"pp=3"},
      {"pp=2", "schedule=interleaved", "virtual_stages=2"},
      {"pp=4", "schedule=zb_h1"},
      {"pp=4", "schedule=zb_h2", "optimizer_sync=post_validation", "workload.optimizer={\"name\":\"adam\",\"clip\":0}"},
      {"dp=2", "pp=2", "schedule=zb_h2", "overlap_grad_reduce=true"},
      {"dp=2", "pp=2", "schedule=zb_v", "zero=1"},
      {"dp=2", "pp=2", "schedule=dualpipe_v"},
      {"dp=2", "pp=2", "schedule=dualpipe", "zero=1", "overlap_grad_reduce=true"},
      {"pp=4", "layers_per_stage=[0,3,1,0]"},
      {"recompute=full"},
      {"recompute=full", "recompute_layers=1", "pp=2"},
      {"recompute=selective", "attention=fused_softmax"},
      {"attention=unfused"},
      {"cp=2"},
      {"cp=4", "tp=2", "dp=2", "zero=1", "overlap_grad_reduce=true", "recompute=full"},
      {"cp=2", "cp_kind=all_to_all", "tp=2", "workload.model.kv_heads=4", "sequence_parallel=true"},
      {"cp=2", "tp=2", "pp=2", "schedule=zb_v", "sequence_parallel=true"},
      {"dp=2", "tp=2", "pp=2", "zero=1", "sequence_parallel=true", "recompute=full", "overlap_grad_reduce=true"},
      {"dp=2", "tp=2", "pp=2", "schedule=interleaved", "virtual_stages=2", "overlap_grad_reduce=true",
       "rank_order=\"tp,pp,dp,cp\""},
  };
  return strategies;
}

TEST(Fold, EveryStrategyAsOpByOp) {
  for (const Overrides& s : all_strategies()) {
    for (const char* model : {testing::kTinyGpt, testing::kTinyLlama}) {
      topologies::Cluster c;
      const plan::PlanGraph g = graph_of(model, s, c);
      for (const int steps : {1, 2, 4}) {
        expect_same(g, c, steps, s);
      }
      const plan::Timeline t = timeline(g, c);
      EXPECT_EQ(plan::validate(g, t), Overrides{}) << ::testing::PrintToString(s);
      c.device.exclusive_streams = true;
      EXPECT_EQ(plan::validate(g, timeline(g, c)), Overrides{}) << ::testing::PrintToString(s);
      c.this_machine = true;
      EXPECT_EQ(plan::validate(g, timeline(g, c)), Overrides{}) << ::testing::PrintToString(s);
    }
  }
}

// A ring of four over nodes of two, and gradients beside it: two ranks send to their neighbour and two into the other
// node. Two classes, and the same time as rank by rank.
TEST(Fold, PlacesOfARingAreClasses) {
  topologies::Cluster c;
  const plan::PlanGraph g = graph_of(testing::kTinyLlama, {"cp=4", "dp=2", "overlap_grad_reduce=true"}, c);
  Options options;
  options.steps = 3;
  const Simulation folded = simulate(g, c, options);
  options.fold_ranks = options.fold_time = false;
  const Simulation other = simulate(g, c, options);
  EXPECT_EQ(folded.classes.size(), 2u);
  EXPECT_EQ(other.classes.size(), 8u);
  EXPECT_EQ(folded.step_ends, other.step_ends);
  for (std::size_t r = 0; r < folded.breakdown.size(); ++r) {
    EXPECT_EQ(folded.breakdown[r].exposed_cp, other.breakdown[r].exposed_cp);
    EXPECT_GT(folded.breakdown[r].exposed_cp.value, 0);
  }
}

// Events decide what a ring's messages slow beside a pipeline's, what a reduction between two stages does, what ranks
// of different roles gather behind their backwards, and what the loss's chunks exchange beside a head's reductions.
bool folds_on_shared_devices(const plan::Mesh& mesh, const Overrides& strategy) {
  const auto has = [&](const char* word) {
    return std::find(strategy.begin(), strategy.end(), word) != strategy.end();
  };
  if (has("overlap_grad_reduce=true") && (has("data_parallel=gather") || has("data_parallel=parameter_server"))) {
    return false;
  }
  if (has("loss_chunks=4") && has("zero=2")) {
    return false;
  }
  return (mesh.size(plan::Axis::cp) == 1 || mesh.size(plan::Axis::pp) == 1) &&
         std::find(strategy.begin(), strategy.end(), "schedule=dualpipe") == strategy.end();
}

TEST(Fold, EveryStrategyOnSharedDevicesAsOpByOp) {
  for (const Overrides& s : all_strategies()) {
    for (const char* model : {testing::kTinyGpt, testing::kTinyLlama}) {
      topologies::Cluster c;
      const plan::PlanGraph g = graph_of(model, s, c);
      for (const auto& [submit, steps] :
           {std::pair{0.0, 3}, {4e-8, 2}, {1e-5, 2}}) {  // never, now and then, always too late
        share_devices(c, submit);
        expect_same(g, c, steps, s, folds_on_shared_devices(g.mesh, s));
      }
      EXPECT_EQ(plan::validate(g, timeline(g, c)), Overrides{}) << ::testing::PrintToString(s);
    }
  }
}

// The host waits for the tables of rows, and submits the rest of a layer late.
TEST(Fold, ExpertsWhoseHostWaitsAsOpByOp) {
  for (const Overrides& s : std::vector<Overrides>{
           {"dp=2", "ep=2"},
           {"dp=4", "ep=2", "pp=2"},
           {"dp=4", "ep=2", "workload.model.moe.every=2", "zero=1", "shard=2"},
           {"dp=2", "ep=2", "pp=2", "schedule=dualpipe_v", "overlap_ep=true"},
           {"dp=4", "ep=4", "overlap_ep=true"},
           {"dp=2", "ep=2", "pp=2", "schedule=zb_h1", "recompute=full"},
           {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4", "zero=1", "overlap_grad_reduce=true"}}) {
    topologies::Cluster c;
    const plan::PlanGraph g = graph_of(testing::kTinyMoe, s, c);
    for (const double submit : {0.0, 4e-8, 1e-5}) {
      share_devices(c, submit);
      expect_same(g, c, 2, s, false);
    }
    EXPECT_EQ(plan::validate(g, timeline(g, c)), Overrides{}) << ::testing::PrintToString(s);
  }
}

// As many ranks as the field's papers have, every one of them simulated.
TEST(Fold, HundredsOfRanksAsEveryRankByItself) {
  const Overrides model = {"workload.model.layers=16", "workload.model.heads=8", "workload.model.hidden=64",
                           "workload.model.head_dim=8", "global_batch=32"};
  const std::vector<Overrides> strategies = {
      {"dp=16", "tp=4"},
      {"dp=4", "tp=8", "pp=8", "sequence_parallel=true", "overlap_grad_reduce=true"},
      {"dp=16", "tp=8", "pp=8", "zero=1", "sequence_parallel=true", "overlap_grad_reduce=true", "recompute=full"},
      {"dp=32", "pp=4", "schedule=interleaved", "virtual_stages=2", "global_batch=128"},
      {"dp=64", "tp=2", "global_batch=128", "zero=3", "shard=16"},
  };
  for (Overrides s : strategies) {
    s.insert(s.begin(), model.begin(), model.end());
    topologies::Cluster c;
    const plan::PlanGraph g = graph_of(testing::kTinyGpt, s, c);
    expect_same(g, c, 2, s);
    share_devices(c, 4e-8);
    expect_same(g, c, 2, s, s.back() != "shard=16");  // several groups' flows in too many rounds
  }
}

// Random speeds move every wait somewhere else. Where flows need many rounds, events take over.
TEST(Fold, AnySpeedsAsOpByOp) {
  std::mt19937 random(7);
  const auto between = [&](double low, double high) {
    return low * std::pow(high / low, static_cast<double>(random() % 1000) / 1000);
  };
  int folded = 0, folded_on_shared = 0, folded_alone = 0;
  for (int i = 0; i < 40; ++i) {
    const Overrides s = {"dp=" + std::to_string(1 << random() % 2),
                         "tp=" + std::to_string(1 << random() % 2),
                         "pp=" + std::to_string(1 << random() % 3),
                         "zero=" + std::to_string(random() % 4),
                         random() % 2 == 0 ? "sequence_parallel=true" : "sequence_parallel=false",
                         random() % 2 == 0 ? "overlap_grad_reduce=true" : "overlap_grad_reduce=false",
                         random() % 2 == 0 ? "recompute=full" : "recompute=none",
                         random() % 2 == 0 ? "schedule=gpipe" : "schedule=1f1b"};
    topologies::Cluster c;
    const plan::PlanGraph g = graph_of(i % 2 == 0 ? testing::kTinyGpt : testing::kTinyLlama, s, c);
    c.device.memory_bandwidth = Bandwidth{between(1e10, 1e13)};
    c.device.peak[Dtype::bf16] = FlopRate{between(1e11, 1e15)};
    c.intra.bandwidth = Bandwidth{between(1e9, 1e12)};
    c.inter.bandwidth = Bandwidth{between(1e8, 1e12)};
    c.inter.latency = Time{static_cast<std::int64_t>(between(1, 1e7))};
    folded += expect_same(g, c, 3, s, false) ? 1 : 0;
    share_devices(c, between(1e-10, 1e-5));
    folded_on_shared += expect_same(g, c, 3, s, false) ? 1 : 0;
    folded_alone += expect_same(g, c, 2, s, false, "alpha_beta") ? 1 : 0;
  }
  EXPECT_EQ(folded, 40);
  EXPECT_GE(folded_on_shared, 38);
  EXPECT_EQ(folded_alone, 40);
}

// A microbatch's gradients are reduced, or its parameters gathered, while the next is computed. A call finds that under
// way, and as much of it left, again and again: few ops are walked.
TEST(Fold, CallsBesideCommunicationUnderWayAreFolded) {
  for (const Overrides& zero : std::vector<Overrides>{{"zero=2", "dp=2", "overlap_grad_reduce=true"},
                                                      {"zero=2", "dp=2", "pp=2", "overlap_grad_reduce=true"},
                                                      {"zero=3", "dp=4"},
                                                      {"zero=3", "dp=2", "tp=2", "sequence_parallel=true"}}) {
    for (const char* const bandwidth : {"slow", "fast"}) {
      Overrides s = {"workload.model.layers=16", "global_batch=128", "micro_batch=1"};
      s.insert(s.end(), zero.begin(), zero.end());
      topologies::Cluster c;
      const plan::PlanGraph g = graph_of(testing::kTinyLlama, s, c);
      c.inter.bandwidth = Bandwidth{bandwidth == std::string("slow") ? 2e9 : 4e10};
      share_devices(c, 0);
      EXPECT_TRUE(expect_same(g, c, 2, s, true, "alpha_beta"));
      Options options;
      options.network_model = "alpha_beta";
      options.fold_ranks = true;
      const Simulation folded = simulate(g, c, options);
      options.fold_time = false;
      EXPECT_LT(folded.walked, simulate(g, c, options).ops / 4) << ::testing::PrintToString(s) << bandwidth;
    }
  }
}

// What is under way when a call begins, and how much of it is left, is another in every draw, and often within one.
TEST(Fold, AnythingUnderWayAsOpByOp) {
  std::mt19937 random(11);
  const auto between = [&](double low, double high) {
    return low * std::pow(high / low, static_cast<double>(random() % 1000) / 1000);
  };
  for (int i = 0; i < 24; ++i) {
    const int pp = 1 << random() % 3;
    const bool interleaved = pp > 1 && random() % 4 != 0;
    const Overrides s = {
        "workload.model.layers=16",
        "global_batch=48",
        "micro_batch=1",
        "overlap_grad_reduce=true",
        "dp=" + std::to_string(2 << random() % 2),
        "tp=" + std::to_string(1 << random() % 2),
        "pp=" + std::to_string(pp),
        "zero=" + std::to_string(1 + random() % 3),
        random() % 2 == 0 ? "sequence_parallel=true" : "sequence_parallel=false",
        random() % 2 == 0 ? "recompute=full" : "recompute=none",
        interleaved ? "schedule=interleaved" : "schedule=1f1b",
        interleaved ? "virtual_stages=" + std::to_string(2 << random() % 2) : std::string("virtual_stages=1")};
    topologies::Cluster c;
    const plan::PlanGraph g = graph_of(i % 2 == 0 ? testing::kTinyGpt : testing::kTinyLlama, s, c);
    c.device.memory_bandwidth = Bandwidth{between(1e11, 1e12)};
    c.device.peak[Dtype::bf16] = FlopRate{between(1e12, 1e13)};
    c.inter.bandwidth = Bandwidth{between(5e8, 2e10)};
    c.inter.latency = Time{static_cast<std::int64_t>(between(1, 1e5))};
    share_devices(c, i % 3 == 0 ? between(1e-9, 1e-7) : 0);
    expect_same(g, c, 3, s, false, "alpha_beta");
  }
}

// Ops of one work, in one place of several roles, are priced once; the prices are those of each.
TEST(Fold, OpsLikeThoseOfTheRoleBefore) {
  topologies::Cluster c;
  const plan::PlanGraph g = graph_of(testing::kTinyGpt, {"pp=4", "workload.model.layers=8"}, c);
  const std::unique_ptr<ComputeModel> compute = make_compute_model("roofline", c);
  const std::unique_ptr<NetworkModel> network = make_network_model("alpha_beta", c, {}, g.mesh.ranks());
  const std::vector<RoleModel> all = model_roles(g, c, *compute, *network);
  std::size_t like = 0, ops = 0;
  for (std::size_t r = 0; r < g.roles.size(); ++r) {
    for (std::size_t b = 0; b < g.roles[r].blocks.size(); ++b) {
      for (std::size_t i = 0; i < g.roles[r].blocks[b].ops.size(); ++i, ++ops) {
        const OpModel& m = all[r].blocks[b][i];
        const plan::Op& op = g.roles[r].blocks[b].ops[i];
        ASSERT_EQ(m.op, &op);
        EXPECT_TRUE(m.like->work == op.work);
        like += m.like != m.op ? 1 : 0;
        if (m.kind == OpKind::local || m.kind == OpKind::instant) {
          EXPECT_EQ(m.duration, time_from_seconds(compute->seconds(op)));
        }
      }
    }
  }
  EXPECT_GT(like, ops / 4);  // of the two stages between the first and the last one at least
  EXPECT_LT(like, ops);
}

// What one clock found out holds at the next; and what was tried in vain need not be.
TEST(Fold, ClocksOfOneGraph) {
  topologies::Cluster c;
  const plan::PlanGraph g = graph_of(testing::kTinyLlama, {"dp=2", "pp=2", "zero=1", "global_batch=64"}, c);
  share_devices(c, 0);
  Options options;
  Simulator simulator(g, c, options);
  for (const double clock : {1.0, 0.5, 0.8, 1.0}) {
    options.clock = clock;
    const Simulation alone = simulate(g, c, options);
    EXPECT_EQ(simulator.at(clock).step_ends, alone.step_ends);
    for (std::size_t unlike = 0; unlike < 4; ++unlike) {
      Options hint = options;
      hint.unlike = unlike;
      EXPECT_EQ(simulate(g, c, hint).step_ends, alone.step_ends);
    }
  }
}

TEST(Fold, PipelinesAsOpByOp) {
  for (const int p : {1, 2, 5}) {
    for (const int m : {1, 2, 7}) {
      expect_same(pipeline(plan::one_f_one_b(p, m), 1, 11, 17, 6), clockwork(p), 2, {});
      expect_same(pipeline(plan::gpipe(p, m), 1, 11, 17, 60), clockwork(p), 3, {});
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
