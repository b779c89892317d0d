// What must not change a bit, in fp32: pipelines, split backwards and accumulation against one rank, ZeRO-1 against
// ZeRO-0, a rerun.
#include <gtest/gtest.h>

#include "plan/build.h"
#include "tests/exec/overrides.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::kModels;
using testing::Overrides;
using testing::words;

struct Outcome {
  std::vector<double> loss, grad_norm;
  std::vector<FullTensor> parameters;
};

Outcome run(const char* model, const Overrides& overrides, const std::string& precision = "fp32") {
  const plan::Job job = testing::tiny_job(model, words(joined(joined(kBase, overrides), {{"precision", precision}})));
  const testing::GrammarData data(job.workload.model.vocab);
  Executor executor(plan::build(job), data, 7);
  RunOptions options;
  options.steps = 5;
  options.timeout = std::chrono::seconds(20);
  const RunResult result = executor.run(options);
  return {result.loss, result.grad_norm, executor.parameters()};
}

void expect_same_bits(const Outcome& a, const Outcome& b, const std::string& what) {
  EXPECT_EQ(a.loss, b.loss) << what;
  EXPECT_EQ(a.grad_norm, b.grad_norm) << what;
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    EXPECT_EQ(a.parameters[i].name, b.parameters[i].name);
    EXPECT_TRUE(a.parameters[i].values == b.parameters[i].values) << what << ": " << a.parameters[i].name;
  }
}

TEST(BitForBit, PipelineAgainstOneRank) {
  for (const char* const model : kModels) {
    const Outcome one = run(model, {});
    for (const Overrides& o :
         {Overrides{{"pp", "2"}}, Overrides{{"pp", "4"}}, Overrides{{"pp", "2"}, {"virtual_stages", "2"}},
          Overrides{{"pp", "2"}, {"schedule", "gpipe"}}, Overrides{{"pp", "3"}, {"layers_per_stage", "[1,2,1]"}},
          Overrides{{"schedule", "zb_h1"}}, Overrides{{"pp", "2"}, {"schedule", "zb_h1"}},
          Overrides{{"pp", "4"}, {"schedule", "zb_h2"}, {"recompute", "full"}},
          Overrides{{"pp", "2"}, {"schedule", "zb_v"}}, Overrides{{"pp", "2"}, {"schedule", "dualpipe_v"}}}) {
      expect_same_bits(run(model, o), one, ::testing::PrintToString(words(o)));
    }
    expect_same_bits(run(model, {{"pp", "2"}, {"micro_batch", "3"}}), run(model, {{"micro_batch", "3"}}),
                     "accumulation of larger microbatches");
    expect_same_bits(run(model, {{"recompute", "full"}, {"pp", "2"}}), one, "full recompute");
  }
}

TEST(BitForBit, ZeroOneAgainstZeroNought) {
  for (const char* const model : kModels) {
    for (const char* const dp : {"2", "3", "4", "8"}) {
      for (const char* const overlap : {"false", "true"}) {
        const Overrides common = {
            {"dp", dp}, {"global_batch", "24"}, {"overlap_grad_reduce", overlap}, {"bucket_bytes", "60 kB"}};
        expect_same_bits(run(model, joined(common, {{"zero", "1"}})), run(model, common), "dp " + std::string(dp));
      }
    }
  }
}

// To a CPU it is two kernels, the same ones.
TEST(BitForBit, FusedActivationAgainstPassesOfTheirOwn) {
  for (const Overrides& o : {Overrides{}, Overrides{{"tp", "2"}}, Overrides{{"recompute", R"(["activation"])"}},
                             Overrides{{"pp", "2"}, {"schedule", "zb_h1"}}}) {
    expect_same_bits(run(testing::kTinyGpt, joined(o, {{"fused_activation", "true"}})), run(testing::kTinyGpt, o),
                     ::testing::PrintToString(words(o)));
  }
}

// Whoever adds the gradients, in the order of the ranks.
TEST(BitForBit, SumsElsewhereAgainstAllReduce) {
  struct Sum {
    const char *model, *precision, *dp;
  };
  // Two addends are a sum in either order; the words of a precision are summed by the same code for all ranks.
  for (const auto& [model, precision, dp] :
       {Sum{kModels[0], "fp32", "1"}, Sum{kModels[1], "fp32", "2"}, Sum{kModels[0], "fp32", "3"},
        Sum{kModels[1], "fp32", "4"}, Sum{kModels[0], "bf16", "4"}, Sum{kModels[1], "bf16", "3"},
        Sum{kModels[1], "bf16", "1"}, Sum{kModels[0], "fp64", "4"}, Sum{kModels[1], "fp64", "3"}}) {
    const Overrides common = {{"dp", dp}, {"bucket_bytes", "60 kB"}};
    const Outcome reduced = run(model, common, precision);
    for (const Overrides& o : std::vector<Overrides>{
             {{"data_parallel", "gather"}},
             {{"data_parallel", "gather"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}},
             {{"data_parallel", "all_gather"}},
             {{"data_parallel", "parameter_server"}},
             {{"data_parallel", "parameter_server"}, {"servers", "3"}, {"overlap_grad_reduce", "true"}},
             {{"data_parallel", "parameter_server"}, {"servers", "6"}},
             {{"data_parallel", "parameter_server"}, {"servers", "1"}, {"server_replicas", "1"}},
             {{"data_parallel", "parameter_server"},
              {"servers", "3"},
              {"server_replicas", "1"},
              {"overlap_grad_reduce", "true"}},
             {{"data_parallel", "parameter_server"}, {"servers", "2"}, {"server_sharding", "hash"}}}) {
      expect_same_bits(run(model, joined(common, o), precision), reduced,
                       std::string(precision) + ::testing::PrintToString(words(joined(common, o))));
    }
  }
  for (const char* const model : kModels) {
    const Overrides spread = {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"sequence_parallel", "true"}};
    expect_same_bits(run(model, joined(spread, {{"data_parallel", "gather"}})), run(model, spread),
                     "gather, tp and pp");
    expect_same_bits(run(model, joined(spread, {{"data_parallel", "all_gather"}})), run(model, spread), "all_gather");
  }
}

TEST(BitForBit, ActivationsOnTheHost) {
  for (const char* const model : kModels) {
    for (const Overrides& o : {Overrides{}, Overrides{{"pp", "2"}, {"dp", "2"}}}) {
      const Outcome kept = run(model, o);
      for (const char* const layers : {"1", "2", "9"}) {
        expect_same_bits(run(model, joined(o, {{"offload", R"(["activations"])"}, {"offload_layers", layers}})), kept,
                         "offload_layers " + std::string(layers));
      }
    }
  }
}

TEST(BitForBit, Rerun) {
  const Overrides o = {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"sequence_parallel", "true"}};
  for (const char* const model : kModels) {
    expect_same_bits(run(model, o), run(model, o), "rerun");
  }
}

}  // namespace
}  // namespace foretrain::exec
