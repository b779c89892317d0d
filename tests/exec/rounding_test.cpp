// bf16 weights without masters: the same bits whoever updates them.
#include <gtest/gtest.h>

#include "plan/build.h"
#include "tests/exec/outcome.h"
#include "tests/exec/overrides.h"
#include "tests/exec/pretend_gpu.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::kModels;
using testing::Outcome;
using testing::Overrides;
using testing::words;

const Overrides kRounded = {{"precision", "bf16"},
                            {"workload.optimizer", R"({"name":"adamw","rounding":"stochastic"})"}};

Outcome run(const char* model, const Overrides& overrides, std::uint64_t seed = 7, Gpu* gpu = nullptr) {
  const plan::Job job = testing::tiny_job(model, words(joined(kBase, joined(kRounded, overrides))));
  const testing::GrammarData data(job.workload.model.vocab);
  const plan::PlanGraph graph = plan::build(job);
  Executor executor(graph, data, seed, nullptr, gpu);
  RunOptions options;
  options.steps = 4;
  options.timeout = std::chrono::seconds(20);
  options.poison = true;
  return testing::train(graph, executor, data, options);
}

// Where gradients have the same bits weights have, too: their random bits are of the place in the whole tensor.
TEST(StochasticRounding, WhoeverUpdates) {
  for (const char* const model : kModels) {
    const Outcome one = run(model, {});
    for (const Overrides& o : std::vector<Overrides>{{{"pp", "2"}},
                                                     {{"pp", "2"}, {"schedule", "zb_v"}},
                                                     {{"recompute", "full"}},
                                                     {{"offload", R"(["optimizer"])"}}}) {
      testing::expect_equal(run(model, o), one);
    }
    const Outcome two = run(model, {{"dp", "2"}});
    for (const Overrides& o : std::vector<Overrides>{{{"zero", "1"}, {"overlap_param_gather", "true"}},
                                                     {{"zero", "1"}, {"zero_kind", "owners"}},
                                                     {{"data_parallel", "gather"}},
                                                     {{"data_parallel", "parameter_server"}, {"servers", "2"}}}) {
      const Outcome other = run(model, joined(o, {{"dp", "2"}}));
      EXPECT_EQ(other.loss, two.loss) << ::testing::PrintToString(words(o));
      testing::expect_equal(other.parameters, two.parameters);
    }
  }
}

// Like one rank that draws the same, to what bf16 allows.
TEST(StochasticRounding, TrainsLikeOneRank) {
  for (const Overrides& o : std::vector<Overrides>{{{"tp", "2"}, {"sequence_parallel", "true"}},
                                                   {{"tp", "4"}, {"dp", "2"}, {"zero", "3"}},
                                                   {{"cp", "2"}, {"attention", "flash"}, {"zero", "1"}},
                                                   {{"pp", "2"}, {"schedule", "zb_h1"}, {"dp", "2"}}}) {
    testing::expect_parity(testing::kTinyLlama, words(joined(kBase, joined(kRounded, o))));
  }
  testing::expect_parity(testing::kTinyMoe, words(joined(kBase, joined(kRounded, {{"dp", "2"}, {"ep", "2"}}))));
}

TEST(StochasticRounding, IsOfTheSeedAndOnTheGpuToo) {
  const Outcome cpu = run(testing::kTinyGpt, {{"tp", "2"}}), other = run(testing::kTinyGpt, {{"tp", "2"}}, 8);
  EXPECT_NE(cpu.loss, other.loss);
  testing::PretendGpu gpu(3);
  testing::expect_equal(run(testing::kTinyGpt, {{"tp", "2"}}, 7, &gpu), cpu);
}

}  // namespace
}  // namespace foretrain::exec
