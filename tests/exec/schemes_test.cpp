// Every scheme of data parallelism over processes trains what threads do: to the bit on one host, and with one rank on
// each; asynchronous ones as far as they have an order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "plan/build.h"
#include "tests/exec/company.h"
#include "tests/exec/overrides.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using testing::company;
using testing::joined;
using testing::kBase;
using testing::Overrides;
using testing::words;

struct Outcome {
  std::vector<double> loss, grad_norm;
  std::vector<FullTensor> parameters;  // process 0's
};

std::string all() {
  return std::to_string(company->count());
}
std::string half() {
  return std::to_string(company->count() / 2);
}

// A rank, and a server where there are some, in each process.
Overrides spread(const Overrides& overrides) {
  Overrides o = joined(joined(kBase, {{"dp", all()}, {"global_batch", "8"}, {"bucket_bytes", "4 kB"}}), overrides);
  if (o.contains("data_parallel") && o.at("data_parallel") == "parameter_server") {
    o = joined(o, {{"servers", all()}});
  }
  return o;
}

Outcome train(const Overrides& overrides, Processes* processes, int steps = 4) {
  const plan::Job job = testing::tiny_job(testing::kTinyLlama, words(overrides));
  const testing::GrammarData data(job.workload.model.vocab);
  Executor executor(plan::build(job), data, 7, processes);
  RunOptions options;
  options.steps = steps;
  options.timeout = std::chrono::seconds(20);
  const RunResult result = executor.run(options);
  return {result.loss, result.grad_norm, executor.parameters()};
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double relative) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i], b[i], relative * std::max(1.0, std::abs(b[i]))) << i;
  }
}

// `relative`: 0 for the same bits.
void expect_same(const Outcome& a, const Outcome& b, double relative) {
  expect_near(a.loss, b.loss, relative);
  expect_near(a.grad_norm, b.grad_norm, relative);
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    SCOPED_TRACE(a.parameters[i].name);
    EXPECT_EQ(a.parameters[i].name, b.parameters[i].name);
    expect_near(a.parameters[i].values, b.parameters[i].values, relative);
  }
}

bool is_one_host() {
  const std::vector<int> hosts = company->hosts();
  return std::all_of(hosts.begin(), hosts.end(), [](int host) { return host == 0; });
}

// Sums go host by host: in the order of threads on one host, and with one rank on each.
bool has_order_of_threads(const Overrides& overrides) {
  return is_one_host() || (company->hosts().back() + 1 == company->count() && !overrides.contains("servers"));
}

// `otherwise`: how near it must be where sums have another order.
void expect_as_threads(const Overrides& overrides, double otherwise = 1e-9) {
  SCOPED_TRACE(::testing::PrintToString(overrides));
  const Overrides over_all = spread(overrides);
  const Outcome together = train(over_all, company);
  if (company->number() == 0) {
    expect_same(together, train(over_all, nullptr), has_order_of_threads(over_all) ? 0 : otherwise);
  }
}

constexpr const char* kNesterov = R"({"kind": "nesterov", "learning_rate": 0.7, "momentum": 0.9})";

TEST(Schemes, WhereAllWaitForAll) {
  const Overrides served = {{"data_parallel", "parameter_server"}},
                  local = {{"data_parallel", "local_sgd"}, {"average_every", "2"}};
  for (const Overrides& o : std::vector<Overrides>{
           {},
           {{"zero", "1"}},
           {{"zero", "2"}},
           {{"zero", "3"}},
           {{"zero", "3"}, {"shard", half() == "1" ? all() : half()}},
           {{"data_parallel", "gather"}},
           {{"data_parallel", "all_gather"}},
           served,
           joined(served, {{"server_sharding", "hash"}, {"overlap_grad_reduce", "true"}}),
           {{"compression", "int8"}},
           {{"compression", "topk:0.1"}},
           local,
           joined(local, {{"outer_optimizer", kNesterov}}),
           joined(local, {{"outer_optimizer", R"({"kind": "sgd"})"}}),
           joined(local, {{"local_group", half()}, {"outer_optimizer", kNesterov}}),
           joined(local, {{"compression", "int8"}, {"local_group", all()}}),
       }) {
    expect_as_threads(o);
  }
}

// Between hosts what they have summed is rounded once more.
TEST(Schemes, InSixteenBits) {
  for (const char* const kind : {"fp16", "bf16"}) {
    expect_as_threads({{"compression", kind}, {"precision", "fp32"}}, 0.02);
  }
}

const Overrides kAsynchronous = {{"data_parallel", "parameter_server"}, {"global_batch", "24"}, {"micro_batch", "3"}};

// Whose turn it is follows from the seed, and a bound of nought lets nobody ahead: the bits of threads.
TEST(Schemes, WorkersInTurn) {
  if (is_one_host()) {
    const Overrides in_turn = joined(kAsynchronous, {{"staleness", "0"}, {"server_order", "random"}});
    expect_as_threads(in_turn);
    expect_as_threads(joined(in_turn, {{"server_replicas", "1"}}));
  }
}

// Updates of steps along gradients that are not clipped add up to the synchronous one.
TEST(Schemes, BoundNoughtIsSynchronous) {
  const Overrides plain =
      joined(kAsynchronous, {{"workload.optimizer", R"({"name": "sgd", "learning_rate": 0.1, "clip": 0})"}});
  if (is_one_host()) {
    const Outcome stale = train(spread(joined(plain, {{"staleness", "0"}})), company),
                  synchronous = train(spread(plain), company);
    ASSERT_EQ(stale.parameters.size(), synchronous.parameters.size());
    for (std::size_t i = 0; i < stale.parameters.size(); ++i) {
      expect_near(stale.parameters[i].values, synchronous.parameters[i].values, 1e-12);
    }
  }
}

TEST(Schemes, WhereNobodyWaits) {
  for (const Overrides& o : std::vector<Overrides>{{{"staleness", "1"}},
                                                   {{"staleness", "\"unbounded\""}},
                                                   {{"staleness", "\"unbounded\""}, {"server_order", "random"}}}) {
    SCOPED_TRACE(::testing::PrintToString(o));
    const Overrides whole = spread(joined(kAsynchronous, o));
    if (is_one_host()) {
      const std::vector<double> loss = train(whole, company, 30).loss;
      EXPECT_LT(loss.back(), 0.9 * loss.front());
    } else {
      EXPECT_THROW(train(whole, company), InputError);
    }
  }
}

}  // namespace
}  // namespace foretrain::exec
