// ZeRO-2, ZeRO-3 and sharding in groups: what is stored, what is gathered and reduced when, and that graphs are valid.
#include <gtest/gtest.h>

#include <algorithm>

#include "plan/build.h"
#include "plan/cursor.h"
#include "plan/validate.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using testing::kTinyGpt;
using testing::kTinyLlama;
using testing::tiny_job;

using Overrides = std::vector<std::string>;

TEST(Sharding, EveryCombinationGivesAValidGraph) {
  const std::vector<Overrides> stages = {{"zero=2"},
                                         {"zero=2", "overlap_grad_reduce=false", "overlap_param_gather=true"},
                                         {"zero=3"},
                                         {"zero=3", "strategy.prefetch=0", "overlap_grad_reduce=false"},
                                         {"zero=3", "strategy.prefetch=3"},
                                         {"zero=3", "reshard=false"},
                                         {"zero=1", "shard=2"},
                                         {"zero=3", "shard=2"}};
  const std::vector<Overrides> others = {{},
                                         {"global_batch=4"},  // one microbatch: nothing is accumulated
                                         {"recompute=full"},
                                         {"tp=2"},
                                         {"tp=4", "sequence_parallel=true"},
                                         {"pp=2"},
                                         {"pp=4", "schedule=gpipe"},
                                         {"schedule=gpipe"},
                                         {"pp=3", "layers_per_stage=[0,4,0]"},
                                         {"pp=2", "virtual_stages=2", "layers_per_stage=[2,0,0,2]"},
                                         {"pp=2", "virtual_stages=2", "tp=2", "sequence_parallel=true"}};
  for (const Overrides& a : stages) {
    for (const Overrides& b : others) {
      Overrides all = a;
      all.insert(all.end(), b.begin(), b.end());
      all.emplace_back("dp=4");
      for (const char* model : {kTinyGpt, kTinyLlama}) {
        EXPECT_EQ(validate(build(tiny_job(model, all))), std::vector<std::string>{}) << ::testing::PrintToString(all);
      }
    }
  }
}

const Buffer& buffer(const Role& role, const std::string& name) {
  const auto found =
      std::find_if(role.buffers.begin(), role.buffers.end(), [&](const Buffer& b) { return b.name == name; });
  EXPECT_NE(found, role.buffers.end()) << name;
  return *found;
}

std::int64_t bytes_of(const Role& role, BufferKind kind) {
  return role.memory.by_kind[static_cast<std::size_t>(kind)].value;
}

// Llama: a layer of qkv 48 x 96, out 48 x 48, gate and up 48 x 144, down 72 x 48 and two gains of 48 is
// 4608 + 2304 + 6912 + 3456 + 96 = 17376 elements; table and head of 128 x 48 are 6144, the head with its norm 6192.
// Padded to multiples of 16 x 4: 17408, 6144, 6208; a part of four: 4352, 1536, 1552.
TEST(Sharding, StoresPartsAndAFewWholeUnits) {
  constexpr std::int64_t kStored = (4 * 4352 + 1536 + 1552) * 8;
  const Role role = build(tiny_job(kTinyLlama, {"dp=4", "zero=3"})).roles[0];
  EXPECT_EQ(bytes_of(role, BufferKind::parameter), kStored);
  EXPECT_EQ(bytes_of(role, BufferKind::gradient), kStored);
  EXPECT_EQ(bytes_of(role, BufferKind::optimizer_state), 2 * kStored);
  // Two layers and the head gathered, and two layers' and one end's gradients whole; parts of a layer, of the embedding
  // and of the head on their way to the sum over microbatches. The embedding's gathered copy is in the workspace.
  EXPECT_EQ(bytes_of(role, BufferKind::communication), (2 * 17408 + 6208 + 2 * 17408 + 6208 + 4352 + 1536 + 1552) * 8);
  EXPECT_EQ(buffer(role, "embedding.parameters.gathered").lifetime, Lifetime::block);

  const Role ahead = build(tiny_job(kTinyLlama, {"dp=4", "zero=3", "strategy.prefetch=2"})).roles[0];
  EXPECT_EQ(buffer(ahead, "layer.parameters.gathered").layers, 3);
  const Role alone = build(tiny_job(kTinyLlama, {"dp=4", "zero=3", "strategy.prefetch=0", "overlap_grad_reduce=false",
                                                 "global_batch=4"}))
                         .roles[0];
  EXPECT_EQ(bytes_of(alone, BufferKind::communication), (17408 + 6208 + 17408 + 6208) * 8);
  const Role stays = build(tiny_job(kTinyLlama, {"dp=4", "zero=3", "reshard=false"})).roles[0];
  EXPECT_EQ(buffer(stays, "layer.parameters.gathered").layers, 4);
  EXPECT_FALSE(buffer(stays, "layer.parameters.gathered").wraps);

  const Role two = build(tiny_job(kTinyLlama, {"dp=4", "zero=2"})).roles[0];
  EXPECT_EQ(bytes_of(two, BufferKind::parameter), (4 * 17408 + 6144 + 6208) * 8);
  EXPECT_EQ(bytes_of(two, BufferKind::gradient), kStored);
}

// Parts of two where two groups of two share a replica each; one rank shares with nobody.
TEST(Sharding, InGroupsAndAlone) {
  const PlanGraph g = build(tiny_job(kTinyLlama, {"dp=4", "zero=3", "shard=2"}));
  EXPECT_EQ(bytes_of(g.roles[0], BufferKind::parameter), (4 * 8704 + 3072 + 3104) * 8);
  const auto group = [&](const std::string& name) {
    return *std::find_if(g.groups.begin(), g.groups.end(), [&](const Group& x) { return x.name == name; });
  };
  EXPECT_EQ(members(g.mesh, group("shard"), 3), (std::vector<Rank>{2, 3}));
  EXPECT_EQ(members(g.mesh, group("replicas"), 3), (std::vector<Rank>{1, 3}));
  const Role one = build(tiny_job(kTinyLlama, {"zero=3"})).roles[0];
  EXPECT_EQ(bytes_of(one, BufferKind::communication), 0);
}

// Collectives of data-parallel streams with their layer, and "|" where a layer or an end computes, of one microbatch.
std::vector<std::string> order(const Overrides& overrides) {
  const PlanGraph g = build(tiny_job(kTinyLlama, overrides));
  const Role& role = g.roles[0];
  std::vector<std::string> result;
  for (ProgramCursor c(role, 0, role.program.body, 0); c; c.next()) {
    const auto* collective = std::get_if<Collective>(&c.op().work);
    const std::string& block = role.blocks[static_cast<std::size_t>(c.block())].name;
    if (collective != nullptr && c.binding().microbatch == 0) {
      std::string what = g.tags[static_cast<std::size_t>(collective->tag)];
      what += c.binding().layer < 0 ? "" : " " + std::to_string(c.binding().layer);
      result.push_back(std::move(what));
    } else if (c.starts_block() && (block.starts_with("layer.") || block.starts_with("head.")) &&
               c.binding().microbatch == 0) {
      result.emplace_back("|");
    }
  }
  return result;
}

// Two layers. A unit is gathered while the one before it computes; the head stays until its backward.
TEST(Sharding, GathersAheadAndReducesBehind) {
  const Overrides base = {"dp=2", "zero=3", "global_batch=2", "workload.model.layers=2"};
  EXPECT_EQ(order(base), (std::vector<std::string>{"parameters.gather.layer 0", "parameters.gather.embedding",
                                                   "parameters.gather.layer 1", "|", "parameters.gather.head", "|", "|",
                                                   "parameters.gather.layer.again 1", "|", "gradients.reduce.head",
                                                   "parameters.gather.layer.again 0", "|", "gradients.reduce.layer 1",
                                                   "|", "gradients.reduce.layer 0", "gradients.reduce.embedding"}));
  Overrides stays = base;
  stays.emplace_back("reshard=false");
  EXPECT_EQ(order(stays), (std::vector<std::string>{"parameters.gather.layer 0", "parameters.gather.embedding",
                                                    "parameters.gather.layer 1", "|", "parameters.gather.head", "|",
                                                    "|", "|", "gradients.reduce.head", "|", "gradients.reduce.layer 1",
                                                    "|", "gradients.reduce.layer 0", "gradients.reduce.embedding"}));
}

// Across groups parts are summed once per step, after its last microbatch.
TEST(Sharding, SumsAcrossGroupsOncePerStep) {
  for (const char* const zero : {"zero=1", "zero=2", "zero=3"}) {
    const PlanGraph g = build(tiny_job(kTinyLlama, {"dp=4", "global_batch=16", "shard=2", zero}));
    const Role& role = g.roles[0];
    std::int64_t inside = 0, across = 0;
    for (ProgramCursor c(role, 0, role.program.body, 0); c; c.next()) {
      if (const auto* op = std::get_if<Collective>(&c.op().work)) {
        const std::string& tag = g.tags[static_cast<std::size_t>(op->tag)];
        inside += tag.starts_with("gradients.reduce.") ? op->elements : 0;
        across += tag.starts_with("gradients.reduce_across.") ? op->elements : 0;
      }
    }
    constexpr std::int64_t kAll = 4 * 17408 + 6144 + 6208;
    EXPECT_EQ(inside, kAll * (zero == std::string("zero=1") ? 1 : 4)) << zero;
    EXPECT_EQ(across, kAll / 2) << zero;
  }
}

// Owners share out what is updated at once, whatever is reduced at once: here every layer.
TEST(Sharding, OwnersBroadcastTheirParts) {
  const PlanGraph g =
      build(tiny_job(kTinyLlama, {"dp=4", "shard=2", "zero=1", "zero_kind=owners", "bucket_bytes=1 B"}));
  EXPECT_EQ(validate(g), std::vector<std::string>{});
  const Role& role = g.roles[0];
  std::vector<std::pair<std::int32_t, std::int64_t>> broadcasts;
  std::int64_t reduced = 0;
  for (ProgramCursor c(role, 0, role.program.body, 0); c; c.next()) {
    if (const auto* op = std::get_if<Collective>(&c.op().work)) {
      if (op->kind == CollectiveKind::broadcast) {
        broadcasts.emplace_back(op->root, op->elements);
      } else if (c.op().phase == Phase::grad_reduce && op->elements > 1) {
        EXPECT_EQ(op->kind, CollectiveKind::all_reduce);
        reduced += op->elements;
      }
    }
  }
  EXPECT_EQ(reduced, 4 * 17408 + 6144 + 6208);
  EXPECT_EQ(broadcasts, (std::vector<std::pair<std::int32_t, std::int64_t>>{
                            {0, 3104}, {1, 3104}, {0, 2 * 17408}, {1, 2 * 17408}, {0, 3072}, {1, 3072}}));
}

// A table on two stages is summed over both before it is reduced.
TEST(Sharding, TablesOfTwoStagesStayWhole) {
  const PlanGraph g = build(tiny_job(kTinyGpt, {"dp=2", "pp=2", "zero=3"}));
  for (const std::size_t stage : {0U, 1U}) {
    const ParameterFamily& ends = g.roles[stage].parameter_families[stage == 0 ? 0 : 2];
    const ParameterFamily& layer = g.roles[stage].parameter_families[1];
    const auto elements = [&](BufferId b) { return g.roles[stage].buffers[static_cast<std::size_t>(b)].elements; };
    EXPECT_EQ(elements(ends.gradient), ends.elements);
    EXPECT_EQ(elements(ends.m), ends.elements / 2);
    EXPECT_EQ(elements(layer.gradient), layer.elements / 2);
  }
}

}  // namespace
}  // namespace foretrain::plan
