// Servers that update by each worker's gradients as they come.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <tuple>

#include "plan/build.h"
#include "plan/channel.h"
#include "plan/validate.h"
#include "tests/exec/overrides.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::Overrides;
using testing::words;

const Overrides kServed = {{"data_parallel", "parameter_server"}};
// Updates on the same parameters add up: no clipping, no momentum.
const Overrides kPlain = {{"workload.optimizer", R"({"name": "sgd", "learning_rate": 0.1, "clip": 0})"}};

class Spans : public plan::SpanSink {
 public:
  void span(const plan::Span& s) override {
    const std::lock_guard lock(mutex_);
    all.push_back(s);
  }
  std::vector<plan::Span> all;

 private:
  std::mutex mutex_;
};

struct Outcome {
  std::vector<double> loss;
  std::vector<FullTensor> parameters;
  plan::Staleness staleness;
};

Outcome run(const Overrides& overrides, int steps) {
  const std::vector<std::string> list = words(joined(kBase, overrides));
  SCOPED_TRACE(::testing::PrintToString(list));
  const plan::Job job = testing::tiny_job(testing::kTinyGpt, list);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
  const testing::GrammarData data(job.workload.model.vocab);
  Executor executor(graph, data, 7);
  Spans spans;
  RunOptions options;
  options.steps = steps;
  options.timeout = std::chrono::seconds(20);
  options.poison = true;
  options.sink = &spans;
  Outcome outcome;
  outcome.loss = executor.run(options).loss;
  outcome.parameters = executor.parameters();
  std::stable_sort(spans.all.begin(), spans.all.end(), [](const plan::Span& a, const plan::Span& b) {
    return std::tie(a.rank, a.step, a.op) < std::tie(b.rank, b.step, b.op);
  });
  plan::StalenessCount count(graph);
  for (const plan::Span& s : spans.all) {
    count.span(s);
  }
  outcome.staleness = count.of_updates();
  plan::Timeline timeline{"measured", spans.all, std::vector<Time>(static_cast<std::size_t>(steps))};
  for (const plan::Span& s : spans.all) {
    Time& end = timeline.step_ends[static_cast<std::size_t>(s.step)];
    end = std::max(end, s.end);
  }
  EXPECT_EQ(plan::validate(graph, timeline, parse_time("10 us")), std::vector<std::string>{});
  return outcome;
}

std::int64_t updates(const plan::Staleness& staleness) {
  std::int64_t n = 0;
  for (const auto& [steps, count] : staleness) {
    n += count;
  }
  return n;
}

void expect_near(const Outcome& a, const Outcome& b, double relative) {
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    for (std::size_t k = 0; k < a.parameters[i].values.size(); ++k) {
      ASSERT_NEAR(a.parameters[i].values[k], b.parameters[i].values[k], relative) << a.parameters[i].name;
    }
  }
}

// With one worker nobody is late: the same bits as without servers.
TEST(Asynchronous, OneWorkerIsOneRank) {
  for (const char* const staleness : {"0", "2", "\"unbounded\""}) {
    const Outcome one = run({}, 5), served = run(joined(kServed, {{"staleness", staleness}}), 5);
    EXPECT_EQ(served.loss, one.loss);
    expect_near(served, one, 0);
    EXPECT_EQ(served.staleness, (plan::Staleness{{0, 5}}));
  }
}

// All have the same parameters at the begin of a step, and the updates of a step add up to the synchronous one. Two
// servers are in step by themselves.
TEST(Asynchronous, BoundNoughtIsSynchronous) {
  for (const char* const servers : {"1", "2"}) {
    const Overrides common = joined(joined(kServed, kPlain), {{"dp", "3"}, {"servers", servers}});
    const Outcome stale = run(joined(common, {{"staleness", "0"}}), 5);
    expect_near(stale, run(common, 5), 1e-12);
    EXPECT_EQ(updates(stale.staleness), 5 * 3 * std::stoi(servers));
    // Of each round one is fresh, one has missed one update, one two.
    const std::int64_t each = 5 * std::stoi(servers);
    EXPECT_EQ(stale.staleness, (plan::Staleness{{0, each}, {1, each}, {2, each}}));
  }
}

// Without a loss `elastic` changes nothing.
TEST(Asynchronous, ElasticIsTheSameWhileNobodyIsLost) {
  const Overrides common = joined(kServed, {{"dp", "3"}, {"staleness", "0"}, {"server_order", "random"}});
  const Outcome fixed = run(common, 5), elastic = run(joined(common, {{"elastic", "true"}}), 5);
  EXPECT_EQ(elastic.loss, fixed.loss);
  expect_near(elastic, fixed, 0);
  EXPECT_EQ(elastic.staleness, fixed.staleness);
}

TEST(Asynchronous, EveryModeLearns) {
  for (const Overrides& mode :
       std::vector<Overrides>{{{"staleness", "1"}},
                              {{"staleness", "3"}, {"servers", "2"}},
                              {{"staleness", "\"unbounded\""}},
                              {{"staleness", "\"unbounded\""}, {"servers", "3"}, {"server_sharding", "size"}},
                              {{"staleness", "\"unbounded\""}, {"server_order", "random"}},
                              {{"staleness", "\"unbounded\""}, {"precision", "bf16"}}}) {
    const Overrides all = joined(joined(kServed, {{"dp", "4"}, {"micro_batch", "3"}}), mode);
    const Outcome outcome = run(all, 30);
    EXPECT_LT(outcome.loss.back(), 0.9 * outcome.loss.front()) << ::testing::PrintToString(words(mode));
    EXPECT_TRUE(std::isfinite(outcome.loss.back()));
  }
}

// A bound of n steps lets each of the others make 2n + 1 updates between a worker's fetch and its update: n that it
// lags behind them, n that it is behind afterwards, and one.
TEST(Asynchronous, TheBoundIsKept) {
  for (const int bound : {0, 1, 2}) {
    const Outcome outcome = run(joined(kServed, {{"dp", "4"}, {"staleness", std::to_string(bound)}}), 20);
    EXPECT_LE(outcome.staleness.rbegin()->first, 3 * (2 * bound + 1));
  }
}

}  // namespace
}  // namespace foretrain::exec
