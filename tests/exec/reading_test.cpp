// What is read ahead, and from slow storage, is what a rank loads by itself: the same bits.
#include <gtest/gtest.h>

#include <memory>

#include "base/error.h"
#include "exec/data.h"
#include "exec/executor.h"
#include "exec/keywords.h"
#include "exec/samples.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::steps;
using Words = std::vector<std::string>;
constexpr const char* kDense = R"({"version": 1,
  "workload": {"model": {"architecture": "mlp", "inputs": 5, "outputs": 1, "hidden": 8, "layers": 3},
               "global_batch": 8, "precision": "fp64", "data": {"samples": 40}},
  "cluster": {"system": "this-machine"}, "strategy": {"dp": 2, "micro_batch": 2}})";

// Losses of twice three steps, with an evaluation between them.
std::vector<double> losses(const char* text, const Words& words, const plan::ReadRate& storage) {
  const plan::Job job = testing::tiny_job(text, words);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), Words{});
  const testing::GrammarData grammar(61);
  std::unique_ptr<const DataSource> samples;
  if (job.workload.model.is_dense()) {
    samples = std::make_unique<const Samples>(job.workload, Samples::Part::training, 1);
  } else if (job.workload.model.is_classifier()) {
    samples = std::make_unique<const Keywords>(job.workload, Keywords::Part::training, 1);
  }
  const DataSource& data = samples ? *samples : grammar;
  Executor executor(graph, data, 1);
  RunOptions options = steps(3);
  options.storage = storage;
  std::vector<double> all = executor.run(options).loss;
  all.push_back(executor.evaluate(data, 1, options));
  for (const double loss : executor.run(options).loss) {
    all.push_back(loss);
  }
  return all;
}

TEST(Reading, AheadAndFromSlowStorageIsTheSame) {
  const plan::ReadRate none, slow{Bandwidth{1e6}, parse_time("100 us")};
  for (const char* const text : {testing::kTinyGpt, testing::kTinyBert, testing::kTinyT5, kDense}) {
    const std::vector<double> expected = losses(text, {}, none);
    EXPECT_EQ(expected.size(), 7U);
    EXPECT_EQ(losses(text, {}, slow), expected);
    for (const char* const prefetch : {"1", "2", "13"}) {
      const Words ahead{std::string("workload.data.prefetch=") + prefetch};
      EXPECT_EQ(losses(text, ahead, none), expected);
      EXPECT_EQ(losses(text, ahead, slow), expected);
    }
    EXPECT_EQ(losses(text, {"workload.data.prefetch=5", "loaders=3"}, slow), expected);
  }
}

TEST(Reading, OfPipelinesAndWhatIsCut) {
  const plan::ReadRate none, slow{Bandwidth{1e6}, parse_time("50 us")};
  const Words reading{"workload.data.prefetch=3", "loaders=2"};
  for (const Words& words : std::vector<Words>{{"pp=2"},
                                               {"pp=2", "schedule=dualpipe"},
                                               {"pp=2", "virtual_stages=2"},
                                               {"dp=2", "cp=2", "tp=2"},
                                               {"dp=2", "loader_ranks=1"},
                                               {"dp=2", "data_parallel=parameter_server"}}) {
    Words both = words;
    both.insert(both.end(), reading.begin(), reading.end());
    EXPECT_EQ(losses(testing::kTinyGpt, both, slow), losses(testing::kTinyGpt, words, none)) << words[0];
  }
}

// Ranks are sent what they would have read: parts of sequences, to the model's ends, over all of a tp group; in
// whatever order the schedule takes the microbatches.
TEST(Reading, ByRanksOfTheirOwnIsTheSame) {
  const plan::ReadRate none, slow{Bandwidth{1e6}, parse_time("50 us")};
  const auto expect = [&](const char* text, const Words& words, const char* loaders) {
    Words with = words;
    with.insert(with.end(), {std::string("loader_ranks=") + loaders, "workload.data.prefetch=3"});
    EXPECT_EQ(losses(text, with, slow), losses(text, words, none)) << ::testing::PrintToString(with);
  };
  for (const Words& words : std::vector<Words>{{"tp=2"},
                                               {"pp=2"},
                                               {"cp=2"},
                                               {"tp=2", "sequence_parallel=true", "pp=2", "cp=2", "zero=3"},
                                               {"tp=2", "pp=2", "cp=2", "rank_order=tp,cp,dp,pp"},
                                               {"cp=2", "cp_kind=all_to_all", "tp=2", "loss_chunks=2"},
                                               {"pp=4", "schedule=gpipe", "tp=2"},
                                               {"pp=2", "virtual_stages=2"},
                                               {"pp=2", "schedule=zb_v"},
                                               {"pp=2", "schedule=dualpipe", "tp=2"},
                                               {"zero=1", "shard=2"},
                                               {"data_parallel=local_sgd", "average_every=2"}}) {
    Words with = words;
    with.insert(with.end(), {"dp=2", "attention=flash"});
    expect(testing::kTinyGpt, with, "1");
  }
  expect(testing::kTinyGpt, {"dp=4", "tp=2"}, "3");
  expect(testing::kTinyBert, {"dp=2", "tp=2", "pp=2"}, "2");
  expect(testing::kTinyT5, {"dp=2", "tp=2"}, "1");
  expect(testing::kTinyClassifier, {"dp=2", "tp=2", "pp=2", "virtual_stages=2"}, "1");
  expect(testing::kTinyMoe, {"dp=2", "ep=2", "tp=2", "sequence_parallel=true"}, "1");
  expect(kDense, {"pp=2"}, "2");
}

// Twelve sequences in steps of four, read in 64 bytes each: the first three steps read all of them, later ones four, as
// eight are kept. An evaluation between them reads nothing of storage.
TEST(Reading, WhatIsKeptIsReadOnce) {
  std::string letters;
  for (int i = 0; i < 300; ++i) {
    letters += static_cast<char>('a' + i * i % 23);
  }
  const Text text = text_of("letters", letters);
  const plan::ReadRate slow{Bandwidth{1e6}, parse_time("50 us")};
  for (const char* const more : {"distribution=random", "distribution=block", "distribution=sequential"}) {
    const auto run = [&](const char* cache, BytesRead first, BytesRead later) {
      const plan::Job job =
          testing::tiny_job(testing::kTinyGpt, {"dp=2", "global_batch=4", "workload.model.vocab=256",
                                                "workload.data.sequences=12", "loaders=2", "workload.data.prefetch=2",
                                                std::string("workload.data.cache=") + cache, more});
      const plan::PlanGraph graph = plan::build(job);
      const workloads::DataSpec& data = job.workload.data;
      const TextWindows windows =
          training_windows(text, 16, 4, 256, 1, {data.distribution, data.reshuffle, 2, 1, data.sequences});
      Executor executor(graph, windows, 1);
      RunOptions options = steps(3);
      options.storage = slow;
      RunResult result = executor.run(options);
      EXPECT_EQ(result.read, first) << more;
      std::vector<double> all = result.loss;
      all.push_back(executor.evaluate(windows, 1, options));
      for (int epoch = 1; epoch < 3; ++epoch) {
        result = executor.run(options);
        EXPECT_EQ(result.read, later) << more;
        all.insert(all.end(), result.loss.begin(), result.loss.end());
      }
      return all;
    };
    const std::vector<double> expected = run("0 B", {768, 0}, {768, 0});
    EXPECT_EQ(run("512 B", {768, 0}, {256, 512}), expected);
    EXPECT_EQ(run("1 GB", {768, 0}, {0, 768}), expected);
  }
}

// Of 40 samples of 24 bytes in steps of 8 ten are kept.
TEST(Reading, KeptSamples) {
  const plan::Job job = testing::tiny_job(kDense, {"workload.data.cache=240 B"});
  const Samples samples(job.workload, Samples::Part::training, 1, {.ranks = 2, .together = 2});
  Executor executor(plan::build(job), samples, 1), alone(plan::build(testing::tiny_job(kDense)), samples, 1);
  EXPECT_EQ(executor.run(steps(5)).read, (BytesRead{960, 0}));
  const RunResult later = executor.run(steps(5));
  EXPECT_EQ(later.read, (BytesRead{720, 240}));
  alone.run(steps(5));
  EXPECT_EQ(later.loss, alone.run(steps(5)).loss);
}

class Broken : public DataSource {
 public:
  void sequence(std::int64_t, std::int64_t, std::int64_t, std::int32_t*) const override {
    throw EnvironmentError("the disk is gone");
  }
};

TEST(Reading, WhatAThreadFailsAtEndsTheRun) {
  const plan::PlanGraph graph = plan::build(testing::tiny_job(testing::kTinyGpt, {"dp=2", "workload.data.prefetch=2"}));
  const Broken data;
  Executor executor(graph, data, 1);
  EXPECT_THROW(executor.run(steps(2)), EnvironmentError);
}

// Held back to a third of their speed, ranks compute what they would have computed.
TEST(Reading, SlowRanksComputeTheSame) {
  const plan::PlanGraph graph = plan::build(testing::tiny_job(testing::kTinyGpt, {"dp=2"}));
  const testing::GrammarData data(61);
  RunOptions options = steps(2);
  Executor fast(graph, data, 1), slow(graph, data, 1);
  const std::vector<double> expected = fast.run(options).loss;
  options.speeds = {1, 1.0 / 3};
  EXPECT_EQ(slow.run(options).loss, expected);
}

}  // namespace
}  // namespace foretrain::exec
