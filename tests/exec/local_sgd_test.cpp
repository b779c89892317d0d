// Local SGD beside each replica's own training on one rank, averaged by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>

#include "exec/executor.h"
#include "plan/build.h"
#include "plan/timeline.h"
#include "plan/validate.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::steps;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Words kSmall = {"global_batch=8", "seq_len=8", "workload.model.layers=2", "padded_vocab=64"};

// Replicas on one rank each, which share nothing but averages.
class ByHand {
 public:
  ByHand(const plan::Job& job, const DataSource& data) : job_(job) {
    plan::Job own = plan::one_rank_job(job);
    const std::int64_t replicas = job.strategy.drifting();
    own.workload.global_batch /= replicas;
    for (std::int64_t r = 0; r < replicas; ++r) {
      data_.push_back(std::make_unique<testing::OfReplica>(data, job.strategy.dp, r, replicas));
      replicas_.push_back(std::make_unique<Executor>(plan::build(own), *data_.back(), 1));
    }
    anchor_ = replicas_.front()->parameters();
    momentum_ = anchor_;
    for (FullTensor& m : momentum_) {
      std::fill(m.values.begin(), m.values.end(), 0.0);
    }
  }

  // One step of all; the mean of their losses.
  double step() {
    double loss = 0;
    for (const auto& replica : replicas_) {
      loss += replica->run(steps(1)).loss.front() / static_cast<double>(replicas_.size());
    }
    if (++done_ % job_.strategy.average_every == 0) {
      average();
    }
    return loss;
  }

  std::vector<FullTensor> parameters() { return replicas_.front()->parameters(); }

 private:
  void average() {
    std::vector<std::vector<FullTensor>> all;
    for (const auto& replica : replicas_) {
      all.push_back(replica->parameters());
    }
    const plan::OuterOptimizer& outer = job_.strategy.outer;
    for (std::size_t t = 0; t < anchor_.size(); ++t) {
      for (std::size_t i = 0; i < anchor_[t].values.size(); ++i) {
        double mean = 0;
        for (const std::vector<FullTensor>& parameters : all) {
          mean += parameters[t].values[i] / static_cast<double>(all.size());
        }
        double &anchor = anchor_[t].values[i], &momentum = momentum_[t].values[i];
        const double gradient = anchor - mean;
        if (outer.kind == plan::OuterKind::average) {
          anchor = mean;
        } else if (outer.kind == plan::OuterKind::sgd) {
          anchor -= outer.learning_rate * gradient;
        } else {
          momentum = outer.momentum * momentum + gradient;
          anchor -= outer.learning_rate * (gradient + outer.momentum * momentum);
        }
      }
    }
    for (const auto& replica : replicas_) {
      replica->set_parameters(anchor_);
    }
  }

  const plan::Job job_;
  std::vector<std::unique_ptr<DataSource>> data_;
  std::vector<std::unique_ptr<Executor>> replicas_;
  std::vector<FullTensor> anchor_, momentum_;
  int done_ = 0;
};

void expect_same(const std::vector<FullTensor>& a, const std::vector<FullTensor>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t t = 0; t < a.size(); ++t) {
    for (std::size_t i = 0; i < a[t].values.size(); ++i) {
      ASSERT_NEAR(a[t].values[i], b[t].values[i], tolerance) << a[t].name << " " << i;
    }
  }
}

// Padded words' rows are no part of the model, and get what the optimizer's decay makes of them: both alike.
void expect_as_by_hand(const char* model, const Words& words) {
  SCOPED_TRACE(::testing::PrintToString(words));
  const plan::Job job = testing::tiny_job(model, kSmall + words);
  const testing::GrammarData data(job.workload.model.vocab);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), Words{});
  Executor executor(graph, data, 1);
  ByHand by_hand(job, data);
  const auto averages = static_cast<int>(2 * job.strategy.average_every);
  const RunResult result = executor.run(steps(averages));
  for (int step = 0; step < averages; ++step) {
    EXPECT_NEAR(result.loss.at(static_cast<std::size_t>(step)), by_hand.step(), 1e-10) << step;
  }
  expect_same(executor.parameters(), by_hand.parameters(), 1e-9);
}

constexpr const char* kNesterov = R"(outer_optimizer={"kind":"nesterov","learning_rate":0.7,"momentum":0.9})";

TEST(LocalSgd, IsEachReplicasTrainingAndAnAverage) {
  for (const char* const model : {testing::kTinyGpt, testing::kTinyLlama}) {
    for (const Words& words :
         {Words{"dp=2", "average_every=3"}, Words{"dp=4", "average_every=2", "local_group=2"},
          Words{"dp=2", "average_every=3", R"(outer_optimizer={"kind":"sgd"})"},
          Words{"dp=2", "average_every=2", kNesterov}, Words{"dp=2", "average_every=1", kNesterov, "optimizer=sgd"}}) {
      expect_as_by_hand(model, words + Words{"data_parallel=local_sgd"});
    }
  }
}

TEST(LocalSgd, GoesWithTheOtherWays) {
  const Words base = {"dp=2", "data_parallel=local_sgd", "average_every=2", kNesterov};
  for (const Words& words : {Words{"tp=2"}, Words{"tp=2", "sequence_parallel=true"},
                             Words{"pp=2", "overlap_grad_reduce=true"}, Words{"cp=2"}, Words{"pp=2", "schedule=zb_h1"},
                             Words{"dp=4", "local_group=2", "overlap_grad_reduce=true", "bucket_bytes=1 kB"},
                             Words{"dp=4", "local_group=2", "compression=topk:1"},
                             Words{R"(workload.optimizer={"name":"lamb","learning_rate":0.01})"}}) {
    expect_as_by_hand(testing::kTinyGpt, base + words);
  }
  expect_as_by_hand(testing::kTinyT5, base + Words{"workload.model.layers=3", "target_len=4"});
}

// Averages in every step, of steps along gradients that are not clipped: the step along the mean gradient.
TEST(LocalSgd, OfEveryStepIsAllReduce) {
  const Words plain = kSmall + Words{"dp=4", R"(workload.optimizer={"name":"sgd","learning_rate":0.1,"clip":0})"};
  const auto run = [&](const Words& words) {
    const plan::Job job = testing::tiny_job(testing::kTinyGpt, plain + words);
    const testing::GrammarData data(job.workload.model.vocab);
    Executor executor(plan::build(job), data, 1);
    executor.run(steps(5));
    return executor.parameters();
  };
  const std::vector<FullTensor> reduced = run({});
  expect_same(run({"data_parallel=local_sgd"}), reduced, 1e-13);
  expect_same(run({"data_parallel=local_sgd", "local_group=2"}), reduced, 1e-13);
  expect_same(run({"data_parallel=local_sgd", "local_group=4"}), reduced, 0);
}

// Master weights are averaged, and rounded.
TEST(LocalSgd, AveragesMasterWeights) {
  const plan::Job job = testing::tiny_job(
      testing::kTinyGpt,
      kSmall + Words{"dp=2", "precision=bf16", "data_parallel=local_sgd", "average_every=2", kNesterov});
  const testing::GrammarData data(job.workload.model.vocab);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), Words{});
  Executor executor(graph, data, 1);
  const RunResult result = executor.run(steps(8));
  EXPECT_LT(result.loss.back(), result.loss.front());
}

// Steps 0 to 4 of a run that averages in steps 1 and 3: the timeline has what the graph says, wherever it begins.
TEST(LocalSgd, TimelinesHoldTheStepsThatTheyHave) {
  class Spans : public plan::SpanSink {
   public:
    void span(const plan::Span& span) override {
      const std::lock_guard lock(mutex);
      spans.push_back(span);
    }
    std::mutex mutex;
    std::vector<plan::Span> spans;
  };
  const plan::Job job = testing::tiny_job(
      testing::kTinyGpt, kSmall + Words{"dp=2", "data_parallel=local_sgd", "average_every=2", kNesterov});
  const testing::GrammarData data(job.workload.model.vocab);
  const plan::PlanGraph graph = plan::build(job);
  for (const int first : {0, 1, 2}) {
    Executor executor(graph, data, 1);
    Spans spans;
    RunOptions options = steps(5);
    options.sink = &spans;
    options.first_traced_step = first;
    executor.run(options);
    plan::Timeline timeline{"measured", std::move(spans.spans), std::vector<Time>(static_cast<std::size_t>(5 - first))};
    std::sort(timeline.spans.begin(), timeline.spans.end(), [](const plan::Span& a, const plan::Span& b) {
      return std::tie(a.rank, a.step, a.op) < std::tie(b.rank, b.step, b.op);
    });
    for (const plan::Span& span : timeline.spans) {
      Time& end = timeline.step_ends.at(static_cast<std::size_t>(span.step - first));
      end = std::max(end, span.end);
    }
    EXPECT_EQ(plan::validate(graph, timeline, Time{1'000'000'000'000}), Words{}) << first;
    std::set<std::int32_t> averages;
    for (const plan::Span& span : timeline.spans) {
      if (span.op.instance + 1 ==
          static_cast<std::int32_t>(graph.roles[0].program.prologue.size() + graph.roles[0].program.body.size())) {
        averages.insert(span.step);
      }
    }
    EXPECT_EQ(averages, first < 2 ? (std::set<std::int32_t>{1, 3}) : std::set<std::int32_t>{3});
  }
}

}  // namespace
}  // namespace foretrain::exec
