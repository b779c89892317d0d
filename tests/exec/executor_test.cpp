#include "exec/executor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <random>
#include <thread>

#include "base/error.h"
#include "exec/evaluate.h"
#include "exec/parameters.h"
#include "plan/build.h"
#include "plan/timeline.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using Words = std::vector<std::string>;

plan::Job small_job(const char* model, Words words = {}) {
  words.insert(words.end(), {"global_batch=4", "seq_len=8", "workload.model.layers=2", "padded_vocab=64"});
  return testing::tiny_job(model, words);
}

RunOptions steps(int n) {
  RunOptions options;
  options.steps = n;
  options.timeout = std::chrono::seconds(20);
  return options;
}

// ---- gradients
// ----------------------------------------------------------------------------------------------------------

// The same batch in every step, so that a loss can be taken again at other parameters.
class OneBatch : public DataSource {
 public:
  void sequence(std::int64_t, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    data_.sequence(0, index, seq_len, ids);
  }

 private:
  testing::GrammarData data_{61};
};

// Central differences of the whole model's loss: (L(x + h) - L(x - h)) / 2h has an error of about h^2 |L'''| / 6, 1e-10
// and less here, and 1e-16 / h = 1e-11 from rounding.
TEST(Gradients, AreTheDerivativesOfTheLoss) {
  const double h = 1e-5;
  for (const char* const model : {testing::kTinyGpt, testing::kTinyLlama}) {
    for (const char* const attention : {"attention=flash", "attention=unfused"}) {
      const OneBatch data;
      Executor executor(plan::build(small_job(model, {attention, "tp=2", "sequence_parallel=true"})), data, 3);
      std::vector<FullTensor> parameters = executor.parameters();
      // Initial gains and biases are all alike; away from there no term can hide behind a zero.
      std::mt19937 random(5);
      for (FullTensor& tensor : parameters) {
        for (double& x : tensor.values) {
          x += 0.1 * (static_cast<double>(random() % 2001) / 1000.0 - 1.0);
        }
      }
      executor.set_parameters(parameters);
      const double loss = executor.evaluate(data, 1, steps(1));
      EXPECT_NEAR(executor.run(steps(1)).loss[0], loss, 1e-14) << "evaluation and training see one loss";
      const std::vector<FullTensor> gradients = executor.gradients();
      for (std::size_t t = 0; t < parameters.size(); ++t) {
        double largest = 0.0;
        for (const double g : gradients[t].values) {
          largest = std::max(largest, std::abs(g));
        }
        for (int sample = 0; sample < 3; ++sample) {
          const std::size_t i = random() % parameters[t].values.size();
          double& x = parameters[t].values[i];
          const double there = x;
          x = there + h;
          executor.set_parameters(parameters);
          const double above = executor.evaluate(data, 1, steps(1));
          x = there - h;
          executor.set_parameters(parameters);
          const double below = executor.evaluate(data, 1, steps(1));
          x = there;
          EXPECT_NEAR((above - below) / (2 * h), gradients[t].values[i], 1e-9 + 1e-6 * largest)
              << parameters[t].name << "[" << i << "]";
        }
      }
    }
  }
}

// ---- runs
// ---------------------------------------------------------------------------------------------------------------

TEST(Executor, RunsGoOnWhereTheyEnded) {
  const testing::GrammarData data(61);
  const plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt, {"dp=2", "zero=3", "reshard=false"}));
  Executor whole(graph, data, 1), parts(graph, data, 1);
  const std::vector<double> expected = whole.run(steps(5)).loss;
  std::vector<double> loss = parts.run(steps(2)).loss;
  EXPECT_EQ(parts.run(steps(0)).loss.size(), 0U);
  for (const double l : parts.run(steps(3)).loss) {
    loss.push_back(l);
  }
  EXPECT_EQ(loss, expected);
}

TEST(Executor, EvaluationDisturbsNothing) {
  const testing::GrammarData data(61);
  for (const Words& words :
       {Words{"pp=2"}, Words{"dp=2", "tp=2"}, Words{"pp=2", "virtual_stages=2", "workload.model.layers=4"},
        Words{"dp=2", "zero=3"}, Words{"dp=2", "zero=3", "reshard=false"}}) {
    Words all = words;
    all.insert(all.end(), {"global_batch=4", "seq_len=8", "padded_vocab=64"});
    const plan::PlanGraph graph = plan::build(testing::tiny_job(testing::kTinyGpt, all));
    Executor plain(graph, data, 1), evaluated(graph, data, 1);
    const std::vector<double> expected = plain.run(steps(4)).loss;
    std::vector<double> loss = evaluated.run(steps(2)).loss;
    const double once = evaluated.evaluate(data, 3, steps(1));
    EXPECT_EQ(evaluated.evaluate(data, 3, steps(1)), once);
    EXPECT_GT(once, 0.0);
    for (const double l : evaluated.run(steps(2)).loss) {
      loss.push_back(l);
    }
    EXPECT_EQ(loss, expected);
  }
}

// Whoever holds the token.
TEST(Executor, LogitsOfAnyPosition) {
  const testing::GrammarData data(61);
  const auto small = [](Words words) {
    words.insert(words.end(), {"global_batch=4", "seq_len=8", "padded_vocab=64"});
    return plan::build(testing::tiny_job(testing::kTinyGpt, words));
  };
  Executor one(small({}), data, 1);
  const std::vector<Words> strategies{{"cp=2"}, {"cp=4", "dp=2"}, {"cp=2", "tp=2", "pp=2"}};
  for (const Words& words : strategies) {
    Executor other(small(words), data, 1);
    for (const std::int64_t row : {0, 1, 2, 5, 7}) {
      const std::vector<double> expected = one.logits(data, row, steps(1)), actual = other.logits(data, row, steps(1));
      ASSERT_EQ(actual.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_NEAR(actual[i], expected[i], 1e-12) << words[0] << ", row " << row;
      }
    }
  }
}

TEST(Executor, ParametersComeBackAsTheyWereSet) {
  const testing::GrammarData data(61);
  for (const Words& words :
       {Words{}, Words{"tp=4"}, Words{"dp=2", "zero=1", "pp=2"}, Words{"dp=4", "zero=3", "shard=2"}}) {
    Executor executor(plan::build(small_job(testing::kTinyLlama, words)), data, 1);
    std::vector<FullTensor> parameters = executor.parameters();
    double next = 0.0;
    for (FullTensor& tensor : parameters) {
      for (double& x : tensor.values) {
        x = next += 0.25;
      }
    }
    executor.set_parameters(parameters);
    const std::vector<FullTensor> back = executor.parameters();
    ASSERT_EQ(back.size(), parameters.size());
    for (std::size_t i = 0; i < back.size(); ++i) {
      EXPECT_EQ(back[i].values, parameters[i].values) << back[i].name;
    }
  }
}

TEST(Executor, InitialValuesDoNotDependOnTheStrategy) {
  const testing::GrammarData data(61);
  const auto parameters = [&](const Words& words) {
    return Executor(plan::build(small_job(testing::kTinyGpt, words)), data, 9).parameters();
  };
  const std::vector<FullTensor> one = parameters({});
  for (const Words& words :
       {Words{"tp=4"}, Words{"pp=2"}, Words{"dp=2", "zero=1"}, Words{"dp=4", "zero=3", "shard=2"}, Words{"cp=2"}}) {
    const std::vector<FullTensor> other = parameters(words);
    ASSERT_EQ(one.size(), other.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
      EXPECT_EQ(one[i].name, other[i].name);
      EXPECT_EQ(one[i].values, other[i].values) << one[i].name;
    }
  }
  // Weights have the deviation asked for, 0.02: its standard error over 64 * 48 values is 0.02 / sqrt(2 * 3072) =
  // 0.00026.
  double sum = 0.0;
  for (const double x : one[0].values) {
    sum += x * x;
  }
  EXPECT_EQ(one[0].name, "embedding.table");
  EXPECT_NEAR(std::sqrt(sum / static_cast<double>(one[0].values.size())), 0.02, 5 * 0.00026);
}

TEST(Executor, TellsOfEachStepOnceAndInOrder) {
  const testing::GrammarData data(61);
  Executor executor(plan::build(small_job(testing::kTinyGpt, {"pp=2"})), data, 1);
  std::vector<int> seen;
  std::vector<double> losses;
  RunOptions options = steps(3);
  options.on_step = [&](int step, double loss, double seconds) {
    seen.push_back(step);
    losses.push_back(loss);
    EXPECT_GT(seconds, 0.0);
  };
  RunResult result = executor.run(options);
  EXPECT_EQ(losses, result.loss);
  EXPECT_EQ(result.grad_norm.size(), 3U);
  EXPECT_GT(result.grad_norm[0], 0.0);
  executor.run(options);
  EXPECT_EQ(seen, (std::vector<int>{0, 1, 2, 3, 4, 5}));
  const plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt, {"pp=2"}));
  EXPECT_EQ(result.arena, std::max(graph.roles[0].memory.arena, graph.roles[1].memory.arena));
}

class Spans : public plan::SpanSink {
 public:
  void span(const plan::Span& s) override {
    const std::lock_guard lock(mutex_);
    timeline_.spans.push_back(s);
  }
  // Sorted as a timeline is: by rank, then program order.
  plan::Timeline take(int steps) {
    std::sort(timeline_.spans.begin(), timeline_.spans.end(), [](const plan::Span& a, const plan::Span& b) {
      return std::tie(a.rank, a.step, a.op) < std::tie(b.rank, b.step, b.op);
    });
    timeline_.step_ends.resize(static_cast<std::size_t>(steps));
    for (const plan::Span& s : timeline_.spans) {
      Time& end = timeline_.step_ends.at(static_cast<std::size_t>(s.step));
      end = std::max(end, s.end);
    }
    return timeline_;
  }

 private:
  std::mutex mutex_;
  plan::Timeline timeline_;
};

// Each op once per step, dependencies kept, no overlap on a stream, collectives together.
TEST(Executor, TimelinesAreValid) {
  const testing::GrammarData data(61);
  for (const Words& words :
       {Words{}, Words{"dp=2", "overlap_grad_reduce=true"}, Words{"tp=2", "sequence_parallel=true"}, Words{"pp=2"},
        Words{"dp=2", "zero=1", "overlap_param_gather=true"}, Words{"dp=2", "tp=2", "pp=2"}, Words{"dp=2", "zero=2"},
        Words{"dp=4", "zero=3", "shard=2"}, Words{"cp=4"}, Words{"cp=2", "cp_kind=all_to_all"}}) {
    const plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt, words));
    Executor executor(graph, data, 1);
    Spans spans;
    RunOptions options = steps(3);
    options.sink = &spans;
    executor.run(options);
    EXPECT_EQ(plan::validate(graph, spans.take(3)), std::vector<std::string>{});
  }
}

TEST(Executor, TracesFromTheStepAskedFor) {
  const testing::GrammarData data(61);
  Executor executor(plan::build(small_job(testing::kTinyGpt)), data, 1);
  Spans spans;
  RunOptions options = steps(3);
  options.sink = &spans;
  options.first_traced_step = 2;
  executor.run(options);
  for (const plan::Span& s : spans.take(3).spans) {
    EXPECT_EQ(s.step, 2);
  }
}

// ---- failures
// -----------------------------------------------------------------------------------------------------------

std::string failure_of(Executor& executor, const RunOptions& options) {
  try {
    executor.run(options);
  } catch (const EnvironmentError& e) {
    return e.what();
  }
  return "no EnvironmentError";
}

TEST(Executor, OneRanksExceptionStopsAll) {
  const testing::TroubledData data(1, 2, [] { throw EnvironmentError("the disk is gone"); });
  for (const Words& words : {Words{}, Words{"dp=4"}, Words{"pp=2"}, Words{"dp=2", "tp=2", "pp=2"}}) {
    Executor executor(plan::build(small_job(testing::kTinyGpt, words)), data, 1);
    EXPECT_EQ(failure_of(executor, steps(5)), "the disk is gone");
    EXPECT_EQ(failure_of(executor, steps(1)), "this run was cut off in the middle of a step and cannot go on");
  }
}

TEST(Executor, NamesTheRankThatHangs) {
  // Sequence 1 of 4 is rank 1's, with one sequence per rank.
  const testing::TroubledData data(1, 1, [&] { data.hang(); });
  Executor executor(plan::build(small_job(testing::kTinyGpt, {"dp=4"})), data, 1);
  RunOptions options = steps(3);
  options.timeout = testing::kHangTimeout;
  const std::string message = failure_of(executor, options);
  EXPECT_NE(message.find("waited 3000 ms for rank 1 in "), std::string::npos) << message;
  EXPECT_NE(message.find("all_reduce"), std::string::npos) << message;
}

// What the ranks of other processes would send, and nothing more: each element once, 4 bytes in fp32, and a header of
// each piece.
TEST(Executor, TensorsAreWholeFromWhatOthersSend) {
  const testing::GrammarData data(61);
  const plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt, {"dp=2", "tp=2", "zero=1", "precision=fp32"}));
  Executor executor(graph, data, 1);
  executor.run(steps(1));
  const std::vector<RankMemory> ranks = executor.memory();
  for (const Quantity quantity : {Quantity::gradient, Quantity::parameter}) {
    const std::vector<FullTensor> whole = gather(graph, ranks, quantity, {});
    std::vector<std::string> sent;
    std::size_t bytes = 0, elements = 0;
    for (std::size_t r = 1; r < ranks.size(); ++r) {
      sent.push_back(owned_parts({ranks[r]}, quantity));
    }
    const std::vector<FullTensor> together = gather(graph, {ranks.front()}, quantity, sent);
    ASSERT_EQ(together.size(), whole.size());
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(together[i].name, whole[i].name);
      EXPECT_EQ(together[i].values, whole[i].values);
      elements += whole[i].values.size();
    }
    sent.push_back(owned_parts({ranks.front()}, quantity));
    for (const std::string& of_rank : sent) {
      bytes += of_rank.size();
    }
    EXPECT_GE(bytes, 4 * elements);
    EXPECT_LT(bytes, 5 * elements);
  }
}

TEST(Executor, StopsBetweenStepsWhenInterrupted) {
  const testing::GrammarData data(61);
  const plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt, {"dp=2", "pp=2"}));
  Executor executor(graph, data, 1);
  std::atomic<bool> interrupted{false};
  RunOptions options = steps(100000);
  options.interrupted = &interrupted;
  options.on_step = [&](int step, double, double) {
    if (step == 3) {
      interrupted = true;
    }
  };
  const RunResult result = executor.run(options);
  EXPECT_GE(result.loss.size(), 4U);
  EXPECT_LT(result.loss.size(), 100000U);
  // All ranks stopped at one boundary: the run goes on, as if nothing had happened.
  Executor plain(graph, data, 1);
  std::vector<double> expected = plain.run(steps(static_cast<int>(result.loss.size()) + 1)).loss;
  EXPECT_EQ(executor.run(steps(1)).loss[0], expected.back());
}

TEST(Executor, AnInterruptedHangIsCutOff) {
  const testing::TroubledData data(0, 1, [] { std::this_thread::sleep_for(std::chrono::milliseconds(600)); });
  Executor executor(plan::build(small_job(testing::kTinyGpt, {"dp=4"})), data, 1);
  const std::atomic<bool> interrupted{true};
  RunOptions options = steps(3);
  options.interrupted = &interrupted;
  EXPECT_LT(executor.run(options).loss.size(), 3U);
}

TEST(Executor, ACallbacksExceptionComesThrough) {
  const testing::GrammarData data(61);
  Executor executor(plan::build(small_job(testing::kTinyGpt, {"dp=2"})), data, 1);
  RunOptions options = steps(50);
  options.on_step = [](int, double, double) { throw EnvironmentError("no more"); };
  EXPECT_EQ(failure_of(executor, options), "no more");
}

TEST(Executor, RefusesWhatACpuCannotRun) {
  const testing::GrammarData data(61);
  plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt));
  graph.roles[0].buffers[0].dtype = Dtype::fp8;
  EXPECT_THROW(Executor(graph, data, 1), InputError);
}

TEST(Executor, RefusesWhatDoesNotFit) {
  const testing::GrammarData data(61);
  plan::PlanGraph graph = plan::build(small_job(testing::kTinyGpt));
  graph.roles[0].memory.arena = Bytes{std::int64_t{1} << 50};
  EXPECT_THROW(Executor(graph, data, 1), InfeasibleError);
}

// ---- evaluation and sampling
// --------------------------------------------------------------------------------------------

// The text is one byte again and again: after a few steps the model writes nothing else, and its validation loss is
// next to 0.
TEST(Evaluate, ATrainedModelWritesWhatItLearned) {
  const Text text = text_of("a", std::string(2000, 'a'));
  for (const Words& words : {Words{}, Words{"tp=2", "dp=2"}, Words{"pp=2", "virtual_stages=1"}}) {
    Words all = words;
    all.insert(all.end(), {"workload.model.vocab=256", "padded_vocab=256", "global_batch=4", "seq_len=8",
                           "workload.model.layers=2", "precision=fp32",
                           R"(workload.optimizer={"name":"adamw","learning_rate":0.01})"});
    const plan::Job job = testing::tiny_job(testing::kTinyGpt, all);
    const plan::PlanGraph graph = plan::build(job);
    const TextWindows data = training_windows(text, 8, 4, 256, 1);
    Executor executor(graph, data, 1);
    const double before = validation_loss(executor, graph, 256, text, steps(1));
    EXPECT_NEAR(before, std::log(256.0), 1.0);
    executor.run(steps(30));
    EXPECT_LT(validation_loss(executor, graph, 256, text, steps(1)), 0.1);
    SampleOptions options;
    options.count = 20;  // past the window of 8
    options.prompt = "aa";
    options.temperature = 0.0;
    options.run = steps(1);
    EXPECT_EQ(sample(executor, graph, text, options), std::string(20, 'a'));
    options.temperature = 1.0;
    EXPECT_EQ(sample(executor, graph, text, options), sample(executor, graph, text, options)) << "the seed decides";
  }
}

}  // namespace
}  // namespace foretrain::exec
