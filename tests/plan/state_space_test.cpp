// State-space layers beside layers with attention: whole graphs, and what each layer computes.
#include <gtest/gtest.h>

#include "plan/build.h"
#include "plan/validate.h"
#include "tests/support/message_of.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::kTinyLlama;
using foretrain::testing::tiny_job;
using Words = std::vector<std::string>;

// Layer 2 of 4 has attention; 4 heads of 6, B and C of 2 groups of 5.
const char* const kHybrid =
    R"(workload.model.ssm={"heads": 4, "head_dim": 6, "state": 5, "groups": 2, "chunk": 8, "attention_layers": [2]})";

Words hybrid(Words words) {
  words.emplace_back(kHybrid);
  return words;
}

TEST(StateSpace, GraphsAreWhole) {
  for (const Words& words : std::vector<Words>{{},
                                               {"dp=2", "zero=1", "overlap_grad_reduce=true"},
                                               {"dp=2", "zero=3"},
                                               {"tp=2", "sequence_parallel=true"},
                                               {"pp=2", "schedule=zb_h1", "tp=2"},
                                               {"recompute=full"},
                                               {"recompute=[\"norm\",\"attention_core\",\"mlp\"]"},
                                               {"attention=unfused"}}) {
    EXPECT_EQ(validate(build(tiny_job(kTinyLlama, hybrid(words)))), Words{}) << ::testing::PrintToString(words);
  }
}

// x 24, z 24, B and C 10 each, dt 4: 72 columns in, 24 out, on 16 tokens.
TEST(StateSpace, WhatALayerComputes) {
  const PlanGraph g = build(tiny_job(kTinyLlama, hybrid({})));
  const Role& role = g.roles[0];
  std::vector<std::string> kinds;
  for (const Block& b : role.blocks) {
    if (b.name == "layer.state_space.forward") {
      for (const Op& op : b.ops) {
        kinds.push_back(kind_name(op.work));
        if (const auto* m = std::get_if<Matmul>(&op.work); m != nullptr && kinds.size() == 2) {
          EXPECT_EQ(std::vector<std::int64_t>({m->m, m->n, m->k}), (std::vector<std::int64_t>{16, 72, 48}));
        }
      }
    }
  }
  EXPECT_EQ(kinds, (Words{"norm.forward", "matmul", "state_space.forward", "matmul", "residual_add", "norm.forward",
                          "matmul", "activation.forward", "matmul", "residual_add"}));
  for (const Segment& s : role.segments) {
    if (s.name == "F0") {
      std::vector<std::pair<std::string, std::int32_t>> calls;
      for (const BlockCall& call : s.calls) {
        if (const std::string& name = role.blocks[static_cast<std::size_t>(call.block)].name;
            name.starts_with("layer")) {
          calls.emplace_back(name, call.count);
        }
      }
      EXPECT_EQ(calls, (std::vector<std::pair<std::string, std::int32_t>>{
                           {"layer.state_space.forward", 2}, {"layer.forward", 1}, {"layer.state_space.forward", 1}}));
    }
  }
}

TEST(StateSpace, RefusesByName) {
  const auto mistake = [](const Words& words) {
    return test::message_of([&] { tiny_job(kTinyLlama, hybrid(words)); });
  };
  EXPECT_EQ(mistake({"cp=2"}),
            "command line: /strategy/cp: state-space layers have whole sequences on every rank; expected 1, not 2");
  EXPECT_EQ(mistake({"tp=4"}), "command line: /strategy/tp: 4 does not divide the 2 groups of state-space layers");
}

}  // namespace
}  // namespace foretrain::plan
