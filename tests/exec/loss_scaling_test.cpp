// Loss scaling: what it changes, and what it does not.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using foretrain::testing::GrammarData;
using foretrain::testing::kTinyGpt;
using foretrain::testing::tiny_job;

struct Trained {
  RunResult result;
  std::vector<FullTensor> parameters;
};

Trained trained(std::vector<std::string> overrides, int steps) {
  overrides.insert(overrides.end(), {"precision=fp32", "workload.optimizer.clip=0.5"});
  const plan::Job job = tiny_job(kTinyGpt, overrides);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
  const GrammarData data(job.workload.model.vocab);
  Executor executor(graph, data, 1);
  RunOptions options;
  options.steps = steps;
  options.poison = true;
  Trained t;
  t.result = executor.run(options);
  t.parameters = executor.parameters();
  return t;
}

void expect_same(const std::vector<FullTensor>& a, const std::vector<FullTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].values, b[i].values) << a[i].name;
  }
}

const std::vector<std::vector<std::string>>& strategies() {
  static const std::vector<std::vector<std::string>> all = {
      {},
      {"dp=2"},
      {"dp=2", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"dp=2", "zero=3"},
      {"tp=2", "sequence_parallel=true"},
      {"pp=2", "dp=2"},
      {"tp=2", "loss_chunks=4"}};
  return all;
}

// Powers of two change no bit of what neither overflows nor vanishes, and the norm is what it would be without.
TEST(LossScaling, ChangesNothingWhereGradientsAreNumbers) {
  for (const std::vector<std::string>& strategy : strategies()) {
    SCOPED_TRACE(::testing::PrintToString(strategy));
    const Trained plain = trained(strategy, 5);
    std::vector<std::string> scaled = strategy;
    scaled.push_back(R"(loss_scaling={"initial":1024,"interval":2})");
    const Trained with = trained(scaled, 5);
    EXPECT_EQ(with.result.loss, plain.result.loss);
    EXPECT_EQ(with.result.grad_norm, plain.result.grad_norm);
    expect_same(with.parameters, plain.parameters);
  }
}

// At 2^140 the gradients of the logits do not fit fp32, at 2^124 they do: the first step is skipped, on all ranks
// alike.
TEST(LossScaling, SkipsAStepWhoseGradientsAreNoNumbers) {
  for (const std::vector<std::string>& strategy : strategies()) {
    SCOPED_TRACE(::testing::PrintToString(strategy));
    std::vector<std::string> scaled = strategy;
    scaled.push_back(
        fmt::format(R"(loss_scaling={{"initial":{},"backoff":{}}})", std::ldexp(1.0, 140), std::ldexp(1.0, -16)));
    const Trained one = trained(scaled, 1), three = trained(scaled, 3);
    expect_same(one.parameters, trained(strategy, 0).parameters);
    EXPECT_FALSE(std::isfinite(three.result.grad_norm[0]));
    EXPECT_TRUE(std::isfinite(three.result.grad_norm[1]) && std::isfinite(three.result.grad_norm[2]));
    EXPECT_LT(three.result.loss[2], three.result.loss[0]);
  }
}

TEST(LossScaling, EndsByNameAfterItsLimit) {
  for (const char* strategy : {"dp=1", "dp=2"}) {
    try {
      trained({R"(loss_scaling={"initial":1e300,"limit":3})", strategy}, 10);
      ADD_FAILURE() << "went on";
    } catch (const InfeasibleError& e) {
      EXPECT_NE(std::string(e.what()).find("no numbers in 3 steps in a row"), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace foretrain::exec
