// Training in fp16, whose gradients overflow and vanish: with scaled losses as in fp32, but for rounding.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "exec/rank_memory.h"
#include "kernels/kernels.h"
#include "plan/build.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using testing::expect_parity;
using testing::GrammarData;
using testing::joined;
using testing::kBase;
using testing::kModels;
using testing::kTinyGpt;
using testing::Overrides;
using testing::strategies;
using testing::Strategy;
using testing::tiny_job;
using testing::words;

// Losses are scaled by default; without where that is not built.
Overrides in_fp16(const Overrides& o) {
  const bool scales =
      !o.contains("compression") && (!o.contains("data_parallel") || o.at("data_parallel") == "all_gather");
  return joined(scales ? Overrides{} : Overrides{{"loss_scaling", "none"}}, joined(o, {{"precision", "fp16"}}));
}

// One model with the one, the other with the next.
TEST(Fp16, EveryStrategyLikeOneRank) {
  std::size_t turn = 0;
  for (const Strategy& s : strategies()) {
    expect_parity(kModels[turn++ % 2], words(joined(kBase, in_fp16(s.overrides))));
  }
}

TEST(Fp16, OtherModelsLikeOneRank) {
  for (const Overrides& o : {Overrides{}, Overrides{{"dp", "2"}, {"tp", "2"}}, Overrides{{"dp", "2"}, {"zero", "3"}},
                             Overrides{{"pp", "2"}, {"tp", "2"}, {"sequence_parallel", "true"}}}) {
    expect_parity(testing::kTinyClassifier, words(in_fp16(o)));
  }
  for (const Overrides& o : {Overrides{{"dp", "2"}, {"ep", "2"}}, Overrides{{"dp", "4"}, {"ep", "2"}, {"zero", "3"}}}) {
    expect_parity(testing::kTinyMoe, words(joined(in_fp16(o), {{"loss_scaling", "none"}})));
  }
}

struct Trained {
  RunResult result;
  std::vector<FullTensor> parameters;
  std::vector<std::array<double, 5>> states;  // of every rank: LossScaleState
};

Trained trained(const Overrides& overrides, int steps) {
  const plan::Job job = tiny_job(kTinyGpt, words(overrides));
  const plan::PlanGraph graph = plan::build(job);
  const GrammarData data(job.workload.model.vocab);
  Executor executor(graph, data, 1);
  Trained t;
  t.result = executor.run(testing::steps(steps));
  t.parameters = executor.parameters();
  for (const RankMemory& memory : executor.memory()) {
    const plan::Role& role = *memory.rank->role;
    if (role.loss_scale >= 0) {
      t.states.emplace_back();
      std::memcpy(t.states.back().data(),
                  memory.at(role.memory.placements[static_cast<std::size_t>(role.loss_scale)].offset),
                  sizeof(t.states.back()));
    }
  }
  return t;
}

void expect_same(const Trained& a, const Trained& b) {
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    EXPECT_EQ(a.parameters[i].values, b.parameters[i].values) << a.parameters[i].name;
  }
}

TEST(Fp16, LearnsAsFp32Does) {
  const Trained wide = trained({{"precision", "fp32"}}, 20), narrow = trained({{"precision", "fp16"}}, 20);
  EXPECT_LT(narrow.result.loss.back(), 0.95 * narrow.result.loss.front());
  EXPECT_NEAR(narrow.result.loss.back(), wide.result.loss.back(), 2e-3 * wide.result.loss.back());
  EXPECT_TRUE(wide.states.empty());
  EXPECT_EQ(narrow.states, (std::vector<std::array<double, 5>>{{65536, 20, 1, 0, 0}}));
}

// 128 tokens, each of whose gradients of its own logit is about -scale / 128: up to 65504 fits, so that 2^20 does, with
// 2^13, and 2^24 does not. From 2^32 on by 2^-4: three steps are skipped, two go well and double the scale four times,
// one is skipped again, and so on: all ranks count five in nine steps, of which none changes a bit.
TEST(Fp16, OverflowIsSkippedOnAllRanksAlike) {
  const Overrides scaled = {
      {"precision", "fp16"},
      {"loss_scaling", R"({"initial": 4294967296, "backoff": 0.0625, "growth": 16, "interval": 2})"}};
  for (const Overrides& strategy :
       {Overrides{}, Overrides{{"dp", "2"}, {"zero", "1"}, {"overlap_grad_reduce", "true"}},
        Overrides{{"dp", "2"}, {"zero", "3"}}, Overrides{{"dp", "2"}, {"data_parallel", "all_gather"}},
        Overrides{{"tp", "2"}, {"sequence_parallel", "true"}}, Overrides{{"pp", "2"}, {"dp", "2"}},
        Overrides{{"cp", "2"}, {"attention", "flash"}}, Overrides{{"tp", "2"}, {"loss_chunks", "4"}}}) {
    SCOPED_TRACE(::testing::PrintToString(words(strategy)));
    const Overrides all = joined(strategy, scaled);
    const Trained start = trained(all, 0), third = trained(all, 3), fifth = trained(all, 5), sixth = trained(all, 6),
                  ninth = trained(all, 9);
    std::vector<bool> finite;
    for (const double norm : ninth.result.grad_norm) {
      finite.push_back(std::isfinite(norm));
    }
    EXPECT_EQ(finite, (std::vector<bool>{false, false, false, true, true, false, true, true, false}));
    for (const std::array<double, 5>& state : ninth.states) {
      EXPECT_EQ(state, (std::array<double, 5>{0x1p20, 0, 0, 1, 5}));
    }
    EXPECT_GE(ninth.states.size(), 1U);
    EXPECT_EQ(ninth.result.loss_scale, 0x1p20);
    EXPECT_EQ(fifth.result.loss_scale, 0x1p24);
    expect_same(third, start);
    expect_same(sixth, fifth);
    EXPECT_LT(ninth.result.loss[8], ninth.result.loss[0]);
  }
}

// A little less than 1 / 128 of 2^-18 is less than half of the smallest number, 2^-24, and becomes nothing; of 2^-17 it
// becomes that number, also where denormals of fp32 are flushed. Nothing is lost by default.
TEST(Fp16, WhatIsLostOfSmallGradients) {
  const auto norm = [](const char* initial) {
    return trained({{"precision", "fp16"}, {"workload.loss_scaling.initial", initial}}, 1).result.grad_norm[0];
  };
  EXPECT_EQ(norm("3.814697265625e-06"), 0.0);
  EXPECT_GT(norm("7.62939453125e-06"), 0.0);
  const double right = trained({{"precision", "fp32"}}, 1).result.grad_norm[0];
  EXPECT_NEAR(norm("65536"), right, 1e-2 * right);
}

}  // namespace
}  // namespace foretrain::exec
