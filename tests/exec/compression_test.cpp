// Gradients exchanged in fewer bytes: nothing is lost where everything is sent; what is lost comes later.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "exec/executor.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/exec/overrides.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::Overrides;
using testing::words;

// Of all of a bucket's gradients none is left out: the sum is that of an all-reduce, in the ranks' order.
TEST(Compression, TopKOfAllIsAllReduce) {
  for (const char* const model : testing::kModels) {
    for (const Overrides& with :
         {Overrides{{"dp", "2"}}, Overrides{{"dp", "3"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}},
          Overrides{{"cp", "2"}}, Overrides{{"dp", "2"}, {"cp", "2"}, {"recompute", "full"}},
          Overrides{{"dp", "2"}, {"pp", "2"}, {"workload.model.tied_embeddings", "false"}},
          Overrides{{"dp", "2"}, {"pp", "2"}, {"workload.model.tied_embeddings", "false"}, {"schedule", "zb_h1"}}}) {
      testing::expect_parity(model, words(joined(kBase, joined(with, {{"compression", "topk:1"}}))));
    }
  }
  testing::expect_parity(testing::kTinyT5, {"dp=2", "compression=topk:1"});
  testing::expect_parity(testing::kTinyGpt, {"dp=2", "compression=topk:1", R"(workload.optimizer={"name":"lamb"})"});
}

std::vector<double> losses(const Overrides& with, int steps) {
  SCOPED_TRACE(::testing::PrintToString(words(with)));
  const plan::Job job = testing::tiny_job(testing::kTinyGpt, words(joined(kBase, with)));
  const testing::GrammarData data(job.workload.model.vocab);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
  Executor executor(graph, data, 1);
  return executor.run(testing::steps(steps)).loss;
}

// In fp32 the gradients of step 0 are rounded to 11, 8 or about 7 bits: the losses of the first steps are alike to a
// thousandth, and that of step 0 to the bit.
TEST(Compression, RoundedGradientsTrainAlike) {
  const Overrides base = {{"dp", "2"}, {"precision", "fp32"}};
  const std::vector<double> exact = losses(base, 6);
  for (const char* const kind : {"fp16", "bf16", "int8"}) {
    for (const char* const overlap : {"false", "true"}) {
      const std::vector<double> rounded =
          losses(joined(base, {{"compression", kind}, {"overlap_grad_reduce", overlap}, {"bucket_bytes", "1 kB"}}), 6);
      EXPECT_EQ(rounded.front(), exact.front()) << kind;
      for (std::size_t i = 1; i < exact.size(); ++i) {
        EXPECT_NE(rounded[i], exact[i]) << kind;
        EXPECT_NEAR(rounded[i], exact[i], 1e-3 * exact[i]) << kind << " " << i;
      }
    }
  }
}

double norm(const std::vector<FullTensor>& tensors) {
  double sum = 0;
  for (const FullTensor& t : tensors) {
    sum = std::inner_product(t.values.begin(), t.values.end(), t.values.begin(), sum);
  }
  return std::sqrt(sum);
}

std::vector<FullTensor> first_gradients(const plan::Job& job, const DataSource& data) {
  Executor executor(plan::build(job), data, 1);
  executor.run(testing::steps(1));
  return executor.gradients();
}

// A value is at most half a scale off, the scale is the largest of 256 magnitudes / 127, and that is no more than their
// norm: a rank's code is off by at most sqrt(256) / 254 of its gradients' norm, and the sum by the sum of these.
TEST(Compression, ACodeOfEightBitsIsAsNearAsItsScales) {
  const Overrides base = {{"dp", "2"}, {"workload.optimizer", R"({"name":"sgd","clip":0})"}};
  const plan::Job exact = testing::tiny_job(testing::kTinyGpt, words(joined(kBase, base)));
  const plan::Job coded =
      testing::tiny_job(testing::kTinyGpt, words(joined(kBase, joined(base, {{"compression", "int8"}}))));
  const testing::GrammarData data(exact.workload.model.vocab);
  double bound = 0;
  for (const int rank : {0, 1}) {
    plan::Job own = plan::one_rank_job(exact);
    own.workload.global_batch /= 2;
    bound += 16.0 / 254.0 * norm(first_gradients(own, testing::OfReplica(data, 2, rank, 2))) / 2;
  }
  std::vector<FullTensor> error = first_gradients(coded, data);
  const std::vector<FullTensor> sum = first_gradients(exact, data);
  for (std::size_t t = 0; t < error.size(); ++t) {
    std::transform(error[t].values.begin(), error[t].values.end(), sum[t].values.begin(), error[t].values.begin(),
                   std::minus<>());
  }
  EXPECT_LE(norm(error), bound);
  EXPECT_GT(norm(error), 0.0);
}

// tp and 16 bits go together, and precisions as well.
TEST(Compression, GoesWithTheOtherWays) {
  for (const Overrides& with :
       {Overrides{{"dp", "2"}, {"tp", "2"}, {"compression", "bf16"}},
        Overrides{{"dp", "2"}, {"tp", "2"}, {"sequence_parallel", "true"}, {"compression", "fp16"}},
        Overrides{{"dp", "2"}, {"pp", "2"}, {"compression", "bf16"}}, Overrides{{"dp", "3"}, {"compression", "bf16"}},
        Overrides{{"dp", "2"}, {"compression", "int8"}, {"precision", "bf16"}},
        Overrides{{"dp", "2"}, {"compression", "topk:0.1"}, {"offload", R"(["optimizer"])"}},
        Overrides{{"dp", "2"}, {"compression", "topk:0.1"}, {"micro_batch", "3"}}}) {
    const std::vector<double> loss = losses(with, 12);
    EXPECT_LT(loss.back(), loss.front());
  }
}

// Without what was left out before, one gradient in a hundred learns little; with it, much of what all learn.
TEST(Compression, WhatIsLeftOutComesLater) {
  const Overrides base = {{"dp", "2"}, {"workload.optimizer", R"({"name":"sgd","learning_rate":0.5,"clip":0})"}};
  const std::vector<double> all = losses(base, 60), few = losses(joined(base, {{"compression", "topk:0.02"}}), 60);
  EXPECT_LT(all.back(), all.front() - 0.3);
  EXPECT_LT(few.back(), few.front() - 0.4 * (all.front() - all.back()));
}

}  // namespace
}  // namespace foretrain::exec
