// Experts on the ranks: what is stored where, how many rows are planned for, and who shares what, by hand.
#include <gtest/gtest.h>

#include <algorithm>

#include "plan/build.h"
#include "plan/runtime_extent.h"
#include "plan/work.h"
#include "tests/support/message_of.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::kTinyMoe;
using foretrain::testing::tiny_job;
using Words = std::vector<std::string>;

const Group* group(const PlanGraph& g, const std::string& name) {
  const auto at = std::find_if(g.groups.begin(), g.groups.end(), [&](const Group& x) { return x.name == name; });
  return at == g.groups.end() ? nullptr : &*at;
}

const ParameterFamily& family(const Role& role, const std::string& name) {
  return *std::find_if(role.parameter_families.begin(), role.parameter_families.end(),
                       [&](const ParameterFamily& f) { return f.name == name; });
}

// Elements that count, over the ranks that hold different ones.
std::int64_t stored(const PlanGraph& g) {
  std::int64_t total = 0;
  for (const Role& role : g.roles) {
    for (const ParameterFamily& f : role.parameter_families) {
      for (const Parameter& p : f.parameters) {
        for (const std::vector<Slice>& slices : p.slices) {
          for (const Slice& s : slices) {
            total += p.counted && s.replica == 0 ? s.rows * p.cols * std::max(1, f.layers) : 0;
          }
        }
      }
    }
  }
  return total;
}

TEST(Experts, ParametersAreStoredOncePerReplica) {
  for (const Words& words :
       std::vector<Words>{{},
                          {"pp=2"},
                          {"dp=2", "ep=2"},
                          {"dp=8", "ep=8"},
                          {"tp=2"},
                          {"tp=2", "dp=4", "ep=2"},
                          {"cp=2", "dp=2", "ep=2"},
                          {"tp=2", "workload.model.moe.bias=true", "zero=1", "dp=2", "ep=2"},
                          {"tp=2", "workload.model.moe.shared_gate=true", "workload.model.moe.bias=true",
                           "sequence_parallel=true", "expert_tp=1"},
                          {"tp=4", "sequence_parallel=true", "expert_tp=1", "ep=2", "kv_heads=4"},
                          {"pp=2", "workload.model.moe.every=2", "dp=2", "ep=2"},
                          {"workload.model.moe.every=3", "workload.model.moe.first_dense_layers=0"},
                          {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"}}) {
    const Job job = tiny_job(kTinyMoe, words);
    const workloads::Model& m = job.workload.model;
    const std::int64_t padding = 2 * (padded_vocab(job) - m.vocab) * m.hidden;
    EXPECT_EQ(stored(build(job)), workloads::total_parameters(m) + padding) << ::testing::PrintToString(words);
  }
}

// 4 layers, the first with an MLP: on two stages the first has one of each, the second two with experts.
TEST(Experts, LayersOfTwoKinds) {
  const PlanGraph g = build(tiny_job(kTinyMoe, {"pp=2", "dp=2", "ep=2"}));
  EXPECT_EQ(family(g.roles[0], "mlp").layers, 1);
  EXPECT_EQ(family(g.roles[0], "experts").layers, 1);
  EXPECT_EQ(layer_of_copy(g.roles[0], family(g.roles[0], "experts").layer_list, 0), 1);
  EXPECT_EQ(family(g.roles[1], "mlp").layers, 0);
  EXPECT_EQ(family(g.roles[1], "experts").layers, 2);
  EXPECT_EQ(layer_of_copy(g.roles[1], family(g.roles[1], "experts").layer_list, 0), 0);
  // 4 of 8 experts, 3 matrices of 48 x 24 each.
  EXPECT_EQ(family(g.roles[1], "experts").elements, 4 * 3 * 48 * 24);
}

// 7 layers, experts in every second from the third on: 3 and 5 of layers 0 to 6. Three chunks on two stages with
// virtual_stages 2 have layers 0-1, 2-3, 4-5, 6: stage 0 has role-local 0 1 | 4 5, of which 5 is local 3; stage 1 has
// 2 3 | 6, of which 3 is local 1. A chunk keeps activations of one layer with experts and of one without, or two.
TEST(Experts, InEverySecondLayer) {
  const PlanGraph g =
      build(tiny_job(kTinyMoe, {"pp=2", "virtual_stages=2", "workload.model.layers=7", "workload.model.moe.every=2",
                                "workload.model.moe.first_dense_layers=2", "global_batch=4"}));
  EXPECT_EQ(g.roles[0].layer_lists, (std::vector<std::vector<std::int32_t>>{{0, 1, 2}, {3}}));
  EXPECT_EQ(g.roles[1].layer_lists, (std::vector<std::vector<std::int32_t>>{{0, 2}, {1}}));
  const auto copies = [](const Role& role, const std::string& name) {
    return std::find_if(role.buffers.begin(), role.buffers.end(), [&](const Buffer& b) { return b.name == name; })
        ->layers;
  };
  EXPECT_EQ(copies(g.roles[0], "up"), 2);
  EXPECT_EQ(copies(g.roles[0], "moe.up"), 1);
  EXPECT_EQ(copies(g.roles[0], "x"), 3);
  EXPECT_EQ(copies(g.roles[1], "up"), 1);
  EXPECT_EQ(family(g.roles[0], "mlp").layers, 3);
  EXPECT_EQ(family(g.roles[0], "experts").layers, 1);
}

// ep 4 of dp 8: blocks of neighbours exchange tokens; every fourth rank holds the same experts.
TEST(Experts, GroupsAlongDp) {
  const PlanGraph g = build(tiny_job(kTinyMoe, {"dp=8", "ep=4"}));
  EXPECT_EQ(members(g.mesh, *group(g, "ep"), 5), (std::vector<Rank>{4, 5, 6, 7}));
  EXPECT_EQ(members(g.mesh, *group(g, "expert_data"), 5), (std::vector<Rank>{1, 5}));
}

// tp 2 with whole experts: ep 4 takes the tp pair and two neighbours along dp.
TEST(Experts, GroupsAlongTpAndDp) {
  const PlanGraph g = build(tiny_job(kTinyMoe, {"dp=4", "tp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"}));
  EXPECT_EQ(members(g.mesh, *group(g, "ep"), 5), (std::vector<Rank>{4, 5, 6, 7}));
  EXPECT_EQ(members(g.mesh, *group(g, "expert_data"), 5), (std::vector<Rank>{1, 5}));
  const PlanGraph small = build(tiny_job(kTinyMoe, {"dp=2", "tp=2", "sequence_parallel=true", "expert_tp=1", "ep=1"}));
  EXPECT_EQ(group(small, "ep"), nullptr);
  EXPECT_EQ(group_size(small.mesh, *group(small, "expert_data")), 4);
}

std::int64_t planned_rows(const Words& words) {
  const PlanGraph g = build(tiny_job(kTinyMoe, words));
  return g.runtime_extents.at(0).maximum;
}

// 16 tokens to 2 of 8 experts. Two ranks with 4 experts each: at worst both send all 32 choices to one. Eight ranks
// with one expert: each token is there once, 8 · 16. Capacity 1 is 16 · 2 / 8 = 4 of a rank for an expert: 2 · 4 · 4.
// Ranks of a cp group route tokens of one microbatch, and hold the same experts.
TEST(Experts, GroupsWithContextParallelism) {
  const PlanGraph g = build(tiny_job(kTinyMoe, {"cp=2", "dp=4", "ep=2"}));
  ASSERT_NE(group(g, "expert_data"), nullptr);
  EXPECT_EQ(group_size(g.mesh, *group(g, "ep")), 2);
  EXPECT_EQ(group_size(g.mesh, *group(g, "expert_data")), 4);  // 8 ranks, 2 different halves of the experts
  EXPECT_EQ(group_size(g.mesh, *group(g, "balanced")), 2);
  EXPECT_EQ(test::message_of([] {
              tiny_job(kTinyMoe, {"cp=2", "workload.model.moe.capacity_factor=1"});
            }),
            "command line: /strategy/cp: 2 with a capacity_factor is not built: experts' places are counted by rank; "
            "expected 1");
}

TEST(Experts, RowsThatArePlannedForOnThisMachine) {
  EXPECT_EQ(planned_rows({"dp=2", "ep=2"}), 64);
  EXPECT_EQ(planned_rows({"dp=8", "ep=8"}), 128);
  EXPECT_EQ(planned_rows({"dp=2", "ep=2", "workload.model.moe.capacity_factor=1"}), 32);
}

// A cluster's forecast: mean 32; 4 experts of a deviation of 0.5 each are 0.25 of the mean, 8; the larger one of two
// normals is 0.564 off: 32 + 4.5, rounded up.
TEST(Experts, RowsThatArePlannedForOnACluster) {
  const Words cluster{R"(cluster={"system":"dgx-h100","nodes":1,"devices_per_node":2})", "precision=bf16", "dp=2",
                      "ep=2"};
  Words uneven = cluster;
  uneven.emplace_back("moe_imbalance=0.5");
  EXPECT_EQ(planned_rows(cluster), 32);
  EXPECT_EQ(planned_rows(uneven), 37);
}

TEST(RuntimeExtent, TheBusiestRank) {
  Mesh mesh;
  mesh.extent = {1, 4, 1, 1};
  const std::vector<Group> groups{{"ep", {{Axis::dp, 0, {}, 1}}, {}}};
  EXPECT_EQ(busiest(mesh, groups, {"rows", 1000, "", 100, 0, 0}), 100);
  EXPECT_EQ(busiest(mesh, groups, {"rows", 1000, "", 100, 10, 0}), 111);  // the largest of four: 1.029 deviations
  EXPECT_EQ(busiest(mesh, groups, {"rows", 105, "", 100, 10, 0}), 105);
  EXPECT_EQ(busiest(mesh, groups, {"rows", 1000, "", 100, 10, kNoGroup}), 100);
}

TEST(RuntimeExtent, OpsAtAnotherValue) {
  Op op;
  op.work = GroupedMatmul{Direction::forward, 4, 100, 8, 6};
  EXPECT_EQ(std::get<GroupedMatmul>(at_extent(op, 10).work).rows, 100);  // no extent of its own
  op.runtime_extent = 0;
  EXPECT_EQ(std::get<GroupedMatmul>(at_extent(op, 10).work).rows, 10);
  EXPECT_DOUBLE_EQ(work(at_extent(op, 10)).flops, 2.0 * 10 * 8 * 6);
  op.work = Collective{CollectiveKind::all_to_all, 0, 600, Dtype::bf16, Reduction::sum, 0, -1, 6};
  EXPECT_EQ(std::get<Collective>(at_extent(op, 10).work).elements, 60);
}

// The same products wherever the experts are; of what may come at worst, only the mean counts.
TEST(Experts, MatmulFlopsDoNotDependOnThePlace) {
  const double one = matmul_flops_per_step(build(tiny_job(kTinyMoe)));
  for (const Words& words : std::vector<Words>{{"dp=2", "ep=2"},
                                               {"dp=8", "ep=8"},
                                               {"pp=2", "dp=4", "ep=2"},
                                               {"tp=2", "dp=2", "ep=2", "padded_vocab=128"}}) {
    // Of a model cut over tp every rank computes the whole router: 3 layers, 128 tokens, 3 products of 2 · 48 · 8.
    const double routers = words[0] == "tp=2" ? 3 * 128 * 3 * 2.0 * 48 * 8 : 0;
    EXPECT_DOUBLE_EQ(matmul_flops_per_step(build(tiny_job(kTinyMoe, words))), one + routers)
        << ::testing::PrintToString(words);
  }
}

}  // namespace
}  // namespace foretrain::plan
