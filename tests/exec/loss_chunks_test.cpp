// Output layer and loss on a part of a microbatch's tokens after the other: what must keep its bits, and what its
// digits. With each other strategy: parity_test.cpp.
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

struct Step {
  double loss = 0;
  std::vector<FullTensor> gradients;
};

Step first_step(const char* model, const Overrides& overrides) {
  const plan::Job job = testing::tiny_job(model, words(joined(kBase, overrides)));
  const testing::GrammarData data(job.workload.model.vocab);
  Executor executor(plan::build(job), data, 7);
  RunOptions options;
  options.steps = 1;
  options.poison = true;
  return {executor.run(options).loss.at(0), executor.gradients()};
}

const FullTensor& named(const std::vector<FullTensor>& tensors, const std::string& name) {
  for (const FullTensor& t : tensors) {
    if (t.name == name) {
      return t;
    }
  }
  ADD_FAILURE() << "no tensor " << name;
  return tensors.front();
}

// Rows do not see each other in the loss nor in the product back to the hidden states. Only the weight's gradient and
// the loss are sums over rows, here in another order.
TEST(LossChunks, BelowTheVocabularysProductGradientsKeepTheirBits) {
  for (const char* const model : kModels) {
    for (const char* const precision : {"fp64", "fp32"}) {
      for (const Overrides& o : std::vector<Overrides>{
               {}, {{"tp", "2"}}, {{"tp", "2"}, {"sequence_parallel", "true"}}, {{"pp", "2"}, {"schedule", "zb_h1"}}}) {
        SCOPED_TRACE(model + ::testing::PrintToString(words(o)) + precision);
        const Overrides whole = joined(o, {{"precision", precision}, {"workload.model.tied_embeddings", "false"}});
        const Step a = first_step(model, whole), b = first_step(model, joined(whole, {{"loss_chunks", "4"}}));
        EXPECT_NEAR(a.loss, b.loss, 1e-12 * a.loss);
        ASSERT_EQ(a.gradients.size(), b.gradients.size());
        for (std::size_t i = 0; i < a.gradients.size(); ++i) {
          EXPECT_TRUE(a.gradients[i].name == "head.weight" || a.gradients[i].values == b.gradients[i].values)
              << a.gradients[i].name;
        }
      }
    }
  }
}

// A chunk of one sequence each: the weight's gradient and the loss are summed as those of microbatches of one.
TEST(LossChunks, AddUpAsMicrobatchesDo) {
  for (const char* const precision : {"fp64", "fp32", "bf16"}) {
    const Overrides o = {{"precision", precision}};
    const Step a = first_step(testing::kTinyLlama, o);
    const Step b = first_step(testing::kTinyLlama, joined(o, {{"micro_batch", "2"}, {"loss_chunks", "2"}}));
    EXPECT_EQ(a.loss, b.loss) << precision;
    EXPECT_TRUE(named(a.gradients, "head.weight").values == named(b.gradients, "head.weight").values) << precision;
  }
}

// What the head is part of: transient gradients of a tied table and of both ends, other schedules' rows, other heads,
// sums elsewhere.
TEST(LossChunks, TrainLikeOneRank) {
  const Overrides chunks = {{"loss_chunks", "2"}};
  const std::vector<std::pair<const char*, Overrides>> cases = {
      {testing::kTinyGpt, {{"dp", "2"}, {"zero", "2"}}},
      {testing::kTinyGpt, {{"dp", "2"}, {"zero", "3"}, {"tp", "2"}, {"sequence_parallel", "true"}}},
      {testing::kTinyLlama, {{"dp", "2"}, {"zero", "3"}, {"reshard", "false"}, {"loss_chunks", "12"}}},
      {testing::kTinyLlama, {{"dp", "4"}, {"global_batch", "24"}, {"zero", "2"}, {"shard", "2"}, {"pp", "2"}}},
      {testing::kTinyLlama, {{"pp", "2"}, {"virtual_stages", "2"}, {"dp", "2"}, {"zero", "3"}}},
      {testing::kTinyGpt, {{"pp", "2"}, {"schedule", "gpipe"}, {"dp", "2"}, {"zero", "1"}}},
      {testing::kTinyGpt, {{"schedule", "gpipe"}, {"fused_grad_accumulation", "false"}}},
      {testing::kTinyLlama, {{"pp", "2"}, {"schedule", "zb_v"}, {"tp", "2"}, {"overlap_tp", "false"}}},
      {testing::kTinyGpt, {{"pp", "2"}, {"schedule", "dualpipe"}, {"zero", "1"}, {"overlap_grad_reduce", "true"}}},
      {testing::kTinyLlama, {{"cp", "3"}, {"micro_batch", "2"}, {"attention", "flash"}, {"precision", "bf16"}}},
      {testing::kTinyBert, {{"tp", "2"}, {"sequence_parallel", "true"}, {"pp", "2"}, {"schedule", "zb_h1"}}},
      {testing::kTinyBert, {{"dp", "2"}, {"zero", "2"}, {"precision", "fp32"}}},
      {testing::kTinyT5, {{"tp", "2"}, {"dp", "2"}, {"zero", "3"}, {"sequence_parallel", "true"}}},
      {testing::kTinyT5, {{"dp", "2"}, {"zero", "2"}, {"workload.model.tied_embeddings", "false"}}},
      {testing::kTinyMoe, {{"pp", "2"}, {"dp", "2"}, {"ep", "2"}, {"schedule", "dualpipe_v"}, {"overlap_ep", "true"}}},
      {testing::kTinyLlama, {{"dp", "2"}, {"data_parallel", "gather"}, {"tp", "2"}}},
      {testing::kTinyGpt, {{"dp", "2"}, {"data_parallel", "parameter_server"}, {"servers", "2"}}},
      {testing::kTinyGpt, {{"offload", R"(["optimizer","activations"])"}, {"recompute", "full"}}},
  };
  for (const auto& [model, overrides] : cases) {
    testing::expect_parity(model, words(joined(kBase, joined(chunks, overrides))));
  }
}

// Between steps, with the forward's chunks alone.
TEST(LossChunks, EvaluationLeavesNothingBehind) {
  const testing::GrammarData data(61);
  RunOptions options;
  options.steps = 2;
  options.poison = true;
  const auto job = [](const std::string& chunks) {
    return testing::tiny_job(testing::kTinyGpt, {"loss_chunks=" + chunks, "tp=2", "dp=2", "zero=2"});
  };
  Executor whole(plan::build(job("1")), data, 7), chunked(plan::build(job("8")), data, 7);
  Executor without(plan::build(job("8")), data, 7);
  const double expected = whole.evaluate(data, 2, options);
  EXPECT_NEAR(chunked.evaluate(data, 2, options), expected, 1e-12 * expected);
  chunked.run(options);
  chunked.evaluate(data, 1, options);
  without.run(options);
  EXPECT_EQ(chunked.run(options).loss, without.run(options).loss);
}

}  // namespace
}  // namespace foretrain::exec
