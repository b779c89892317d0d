// verify() must fail on a graph that does something else than the job: each mutation is an edit of a built graph.
#include "exec/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "base/error.h"
#include "plan/build.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using Words = std::vector<std::string>;

// Four microbatches of two layers.
plan::Job small_job(const char* model, Words words) {
  words.insert(words.end(), {"global_batch=4", "seq_len=8", "workload.model.layers=2", "padded_vocab=64"});
  return testing::tiny_job(model, words);
}

// Whether the mutated graph is caught: verify says no, or the run fails by itself.
bool is_caught(const plan::Job& job, const plan::PlanGraph& mutated) {
  const testing::GrammarData data(job.workload.model.vocab);
  VerifyOptions options;
  options.timeout = std::chrono::milliseconds(500);
  try {
    const Course& one_rank = testing::one_rank_course(job, data, options);
    return !verify(mutated, one_rank, testing::brief(job), data, options).passed;
  } catch (const EnvironmentError&) {
    return true;
  }
}

void for_each_op(plan::PlanGraph& graph, const std::function<void(plan::Op&)>& fn) {
  for (plan::Role& role : graph.roles) {
    for (plan::Block& block : role.blocks) {
      for (plan::Op& op : block.ops) {
        fn(op);
      }
    }
  }
}

// Tags of the collectives that a step runs (the evaluation has its own blocks, but shares tags).
std::set<std::int32_t> collective_tags(plan::PlanGraph graph) {
  std::set<std::int32_t> tags;
  for_each_op(graph, [&](plan::Op& op) {
    if (const auto* c = std::get_if<plan::Collective>(&op.work)) {
      tags.insert(c->tag);
    }
  });
  return tags;
}

const std::vector<Words>& mutated_strategies() {
  static const std::vector<Words> all = {
      {"dp=2"},
      {"dp=2", "zero=1"},
      {"dp=2", "zero=3", "strategy.prefetch=0"},  // one copy: the first layer's is gone when its backward begins
      {"dp=4", "zero=3", "shard=2", "strategy.prefetch=0"},
      {"dp=2", "zero=1", "zero_kind=owners"},
      {"dp=2", "overlap_grad_reduce=true"},
      {"tp=2"},
      {"tp=2", "sequence_parallel=true"},
      {"tp=4", "sequence_parallel=true", "workload.model.kv_heads=2"},
      {"pp=2"},
      {"dp=2", "tp=2", "pp=2"},
  };
  return all;
}

class VerifyMutations : public ::testing::TestWithParam<std::size_t> {};

TEST_P(VerifyMutations, FailsWhenAnyCollectiveIsDropped) {
  int dropped = 0;
  for (const char* const model : {testing::kTinyGpt, testing::kTinyLlama}) {
    const plan::Job job = small_job(model, mutated_strategies()[GetParam()]);
    const plan::PlanGraph graph = plan::build(job);
    for (const std::int32_t tag : collective_tags(graph)) {
      plan::PlanGraph mutated = graph;
      for_each_op(mutated, [&](plan::Op& op) {
        const auto* c = std::get_if<plan::Collective>(&op.work);
        if (c != nullptr && c->tag == tag) {
          op.work = plan::Join{};
        }
      });
      EXPECT_TRUE(is_caught(job, mutated)) << "without " << graph.tags[static_cast<std::size_t>(tag)];
      ++dropped;
    }
  }
  EXPECT_GE(dropped, 3);
}

INSTANTIATE_TEST_SUITE_P(Strategies, VerifyMutations, ::testing::Range(std::size_t{0}, mutated_strategies().size()));

// On one stage only: the other stages still take the microbatches in their order.
TEST(Verify, FailsWhenTwoMicrobatchesAreSwapped) {
  const plan::Job job = small_job(testing::kTinyGpt, {"pp=2"});
  for (const std::size_t stage : {std::size_t{0}, std::size_t{1}}) {
    plan::PlanGraph mutated = plan::build(job);
    plan::Role& role = mutated.roles[stage];
    for (plan::Instance& instance : role.program.body) {
      const bool is_forward =
          instance.segment >= 0 && role.segments[static_cast<std::size_t>(instance.segment)].name == "F0";
      if (is_forward && (instance.microbatch == 0 || instance.microbatch == 1)) {
        instance.microbatch = 1 - instance.microbatch;
      }
    }
    EXPECT_TRUE(is_caught(job, mutated)) << "stage " << stage;
  }
}

TEST(Verify, FailsWhenAScaleIsChanged) {
  const plan::Job job = small_job(testing::kTinyLlama, {"dp=2"});
  for (const plan::CrossEntropyStep step : {plan::CrossEntropyStep::combine, plan::CrossEntropyStep::backward}) {
    plan::PlanGraph mutated = plan::build(job);
    for_each_op(mutated, [&](plan::Op& op) {
      auto* const c = std::get_if<plan::CrossEntropy>(&op.work);
      if (c != nullptr && c->step == step) {
        c->scale *= 1.0 + 1e-9;
      }
    });
    EXPECT_TRUE(is_caught(job, mutated));
  }
}

TEST(Verify, FailsWhenTheOptimizerDiffers) {
  const plan::Job job = small_job(testing::kTinyLlama, {"tp=2"});
  plan::PlanGraph mutated = plan::build(job);
  for_each_op(mutated, [&](plan::Op& op) {
    if (auto* const step = std::get_if<plan::OptimizerStep>(&op.work)) {
      step->optimizer.weight_decay += 1e-6;
    }
  });
  EXPECT_TRUE(is_caught(job, mutated));
}

TEST(Verify, FailsWhenABiasIsForgotten) {
  const plan::Job job = small_job(testing::kTinyGpt, {"tp=2"});
  plan::PlanGraph mutated = plan::build(job);
  for_each_op(mutated, [&](plan::Op& op) {
    if (auto* const bias = std::get_if<plan::BiasGradient>(&op.work)) {
      *bias = plan::BiasGradient{0, bias->cols, bias->dtype};
    }
  });
  EXPECT_TRUE(is_caught(job, mutated));
}

TEST(Verify, StatesWhatItCompared) {
  const plan::Job job = small_job(testing::kTinyGpt, {"dp=2"});
  const testing::GrammarData data(61);
  const Tolerance tolerance = tolerance_of(job);
  const Course one_rank = train(plan::build(plan::one_rank_job(job)), tolerance, data, {});
  const Verification v = verify(plan::build(job), one_rank, tolerance, data, {});
  EXPECT_TRUE(v.passed);
  EXPECT_EQ(v.tolerance.steps, 5);
  EXPECT_EQ(v.loss.size(), 5U);
  EXPECT_EQ(v.reference_loss.size(), 5U);
  EXPECT_LE(v.max_rel_loss, 1e-12);
  EXPECT_LE(v.max_rel_grad, 1e-12);
}

TEST(Verify, AnInterruptedOneHasNotPassed) {
  const plan::Job job = small_job(testing::kTinyGpt, {});
  const testing::GrammarData data(61);
  const std::atomic<bool> interrupted{true};
  VerifyOptions options;
  options.interrupted = &interrupted;
  const Tolerance tolerance = testing::brief(job);
  Verification v;
  for (int attempt = 0; attempt < 20 && v.loss.size() < 3; ++attempt) {
    const Course interrupted_too = train(plan::build(job), tolerance, data, options);
    v = verify(plan::build(job), interrupted_too, tolerance, data, options);
    EXPECT_TRUE(v.loss.size() == 3 || !v.passed);
  }
}

// Two tensors, norms 3 and 4, together 5. Errors: 0.3 / 3 = 0.1, and 0.2 / 4 = 0.05.
TEST(GradientError, IsRelativeToTheTensor) {
  const std::vector<FullTensor> reference = {{"a", {3, 0}}, {"b", {0, 4}}};
  const std::vector<FullTensor> other = {{"a", {3, 0.3}}, {"b", {0, 4.2}}};
  const GradientError error = gradient_error(reference, other);
  EXPECT_DOUBLE_EQ(error.value, 0.1);
  EXPECT_EQ(error.tensor, "a");
}

// Norm 1e-6 against 100 in all: the small tensor is judged against 0.01 * 100 = 1 (to 1e-16 of it), so 0.5 / 1.
TEST(GradientError, OfASmallTensorIsRelativeToAll) {
  const std::vector<FullTensor> reference = {{"small", {1e-6}}, {"large", {100}}};
  const std::vector<FullTensor> other = {{"small", {0.5 + 1e-6}}, {"large", {100}}};
  EXPECT_NEAR(gradient_error(reference, other).value, 0.5, 1e-12);
}

TEST(GradientError, ANaNIsInfinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isinf(gradient_error({{"a", {1}}, {"b", {1}}}, {{"a", {nan}}, {"b", {1}}}).value));
  EXPECT_TRUE(std::isinf(gradient_error({{"a", {nan}}, {"b", {1}}}, {{"a", {1}}, {"b", {1}}}).value));
}

}  // namespace
}  // namespace foretrain::exec
