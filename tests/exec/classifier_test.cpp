// Classifiers of padded sequences: every strategy trains like one rank, what stands behind a sequence's end has no
// part, and the made sequences are what exec/keywords.h says.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "exec/evaluate.h"
#include "exec/keywords.h"
#include "plan/build.h"
#include "tests/exec/overrides.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::kTinyClassifier;
using testing::Overrides;
using testing::Strategy;
using testing::tiny_job;
using testing::words;

TEST(Classifier, EveryStrategyLikeOneRank) {
  const auto expect = [](const Overrides& o) { testing::expect_parity(kTinyClassifier, words(joined(kBase, o))); };
  for (const Strategy& s : testing::strategies()) {
    const auto has = [&](const char* key) { return s.overrides.contains(key); };
    const bool recomputes_norms = has("recompute") && s.overrides.at("recompute").find("norm") != std::string::npos;
    if (!recomputes_norms && !has("cp") && !has("attention") && !has("loss_chunks") && !has("document_length") &&
        !has("workload.model.parallel_residual") && !has("workload.model.attention_window") &&
        !has("workload.model.attention_sinks")) {
      expect(s.overrides);
    }
  }
  const Overrides sp = {{"tp", "2"}, {"sequence_parallel", "true"}};
  for (const Overrides& o :
       std::vector<Overrides>{joined(sp, {{"pp", "2"}, {"dp", "2"}, {"zero", "1"}, {"micro_batch", "3"}}),
                              joined(sp, {{"dp", "2"}, {"zero", "3"}, {"recompute", "full"}, {"micro_batch", "2"}}),
                              joined(sp, {{"pp", "2"}, {"schedule", "zb_h1"}, {"recompute", "selective"}}),
                              joined(sp, {{"pp", "3"}, {"layers_per_stage", "[0,4,0]"}}),
                              {{"pp", "4"}, {"offload", R"(["activations"])"}, {"layers_per_stage", "[0,3,1,0]"}},
                              {{"pp", "2"}, {"schedule", "dualpipe"}},
                              {{"workload.model.qk_norm", "true"}, {"workload.model.positions", "rotary"}, {"tp", "4"}},
                              joined(sp, {{"precision", "bf16"}, {"dp", "2"}, {"micro_batch", "3"}}),
                              {{"precision", "fp32"}, {"dp", "2"}, {"zero", "2"}, {"tp", "2"}}}) {
    expect(o);
  }
}

// Sequences of 6 tokens in rows of `seq_len`, with any id behind them; all that a class depends on is said.
class Padded : public DataSource {
 public:
  explicit Padded(std::int32_t behind) : behind_(behind) {}
  void sequence(std::int64_t step, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    for (std::int64_t i = 0; i <= seq_len; ++i) {
      ids[i] = i < 6 ? static_cast<std::int32_t>((step * 31 + index * 7 + i * i * 5) % 61) : behind_;
    }
  }
  Sample sample(std::int64_t, std::int64_t index) const override { return {{&kLength, 1}, {&kClasses[index % 3], 1}}; }

 private:
  static constexpr double kLength = 6, kClasses[] = {0, 1, 2};
  std::int32_t behind_;
};

RunResult trained(const std::vector<std::string>& words, const DataSource& data, std::vector<FullTensor>* gradients) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyClassifier, words));
  Executor executor(graph, data, 1);
  RunOptions options;
  options.steps = 3;
  options.poison = true;
  const RunResult result = executor.run(options);
  *gradients = executor.gradients();
  return result;
}

// To rows of 16 tokens, 6 of them the sequence's, and with other ids behind those: as to rows of 6.
TEST(Classifier, WhatIsBehindTheEndHasNoPart) {
  std::vector<FullTensor> whole, padded, others;
  const std::vector<std::string> positions = {"workload.model.max_positions=16"};
  std::vector<std::string> six = positions;
  six.emplace_back("seq_len=6");
  const RunResult a = trained(six, Padded(0), &whole), b = trained(positions, Padded(0), &padded),
                  c = trained(positions, Padded(17), &others);
  for (std::size_t step = 0; step < 3; ++step) {
    EXPECT_NEAR(a.loss[step], b.loss[step], 1e-13);
    EXPECT_EQ(b.loss[step], c.loss[step]);
  }
  ASSERT_EQ(whole.size(), padded.size());
  for (std::size_t t = 0; t < whole.size(); ++t) {
    for (std::size_t i = 0; i < whole[t].values.size(); ++i) {
      ASSERT_NEAR(whole[t].values[i], padded[t].values[i], 1e-12) << whole[t].name;
      ASSERT_EQ(padded[t].values[i], others[t].values[i]) << whole[t].name;
    }
  }
}

TEST(Keywords, AreWhatTheySay) {
  plan::Job job = tiny_job(kTinyClassifier, {"workload.data.samples=600"});
  for (const auto part : {Keywords::Part::training, Keywords::Part::validation}) {
    const Keywords data(job.workload, part, 3);
    ASSERT_EQ(data.count(), part == Keywords::Part::training ? 600 : 60);
    std::set<std::int64_t> lengths, classes;
    for (std::int64_t i = 0; i < data.count(); ++i) {
      const std::int64_t per_step = part == Keywords::Part::training ? 8 : 1;
      std::vector<std::int32_t> ids(17, -1);
      data.sequence(i / per_step, i % per_step, 16, ids.data());
      const Sample sample = data.sample(i / per_step, i % per_step);
      const auto length = static_cast<std::int64_t>(sample.features[0]),
                 told = static_cast<std::int64_t>(sample.labels[0]);
      lengths.insert(length);
      classes.insert(told);
      EXPECT_EQ(ids[0], 1);
      EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 17 - length);
      EXPECT_TRUE(std::all_of(ids.begin() + length, ids.end(), [](std::int32_t id) { return id == 0; }));
      EXPECT_EQ(std::count_if(ids.begin(), ids.end(), [](std::int32_t id) { return id >= 2 && id < 5; }), 1);
      EXPECT_EQ(std::count(ids.begin() + 1, ids.begin() + length, 2 + told), 1);
      EXPECT_TRUE(std::all_of(ids.begin(), ids.end(), [](std::int32_t id) { return id < 61; }));
    }
    EXPECT_EQ(*lengths.begin(), 4);
    EXPECT_EQ(*lengths.rbegin(), 16);
    EXPECT_EQ(classes.size(), 3u);
  }
}

// Whose logits are of whom: every sequence has its own class, whatever the strategy.
TEST(Classifier, ClassifiesTheSameUnderEveryStrategy) {
  std::vector<std::int64_t> right;
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {}, {"dp=2", "tp=2", "micro_batch=2"}, {"pp=2", "micro_batch=4"}, {"tp=2", "sequence_parallel=true"}}) {
    const plan::Job job = tiny_job(kTinyClassifier, words);
    const plan::PlanGraph graph = plan::build(job);
    const Keywords training(job.workload, Keywords::Part::training, 1),
        validation(job.workload, Keywords::Part::validation, 1);
    Executor executor(graph, training, 1);
    RunOptions options;
    options.steps = 4;
    executor.run(options);
    const Classified classified = exec::classified(executor, graph, validation, 3, options);
    EXPECT_EQ(classified.sequences, 102);
    right.push_back(classified.right);
  }
  EXPECT_EQ(right, std::vector<std::int64_t>(4, right[0]));
}

}  // namespace
}  // namespace foretrain::exec
