// Servers that update by each worker's gradients as they come.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "exec/rank_memory.h"
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

// States that ranks which serve have been in, by rank, and when replicas had what they update by.
class States : public plan::SpanSink {
 public:
  explicit States(const plan::PlanGraph& graph) {
    for (std::size_t r = 0; r < graph.roles.size(); ++r) {
      const plan::Role& role = graph.roles[r];
      for (plan::ProgramCursor c(role, static_cast<int>(r), role.program.body, plan::first_body_instance(role.program));
           c; c.next()) {
        ops_[c.id()] = &c.op();
      }
    }
  }

  void span(const plan::Span& s) override {
    const std::lock_guard lock(mutex_);
    const plan::Op& op = *ops_.at(s.op);
    if (std::holds_alternative<plan::OptimizerStep>(op.work)) {
      const std::size_t state = state_of(memory.at(static_cast<std::size_t>(s.rank)));
      std::vector<std::size_t>& states = all.at(s.rank);
      if (states.back() != state) {
        states.push_back(state);
      }
    } else if (std::holds_alternative<plan::Exchange>(op.work) && !op.writes.empty()) {
      received[{s.rank, s.step, s.op.instance}] = s.end;
    } else if (const auto* channel = std::get_if<plan::Channel>(&op.work);
               channel != nullptr && channel->step == plan::ChannelStep::release) {
      released[{s.rank, s.step, s.op.instance}] = s.start;
    }
    dropped += s.sender < -1 ? 1 : 0;
  }

  void begin(plan::Rank first_server) {
    for (const RankMemory& m : memory) {
      if (m.rank->rank >= first_server) {
        all[m.rank->rank].push_back(state_of(m));
      }
    }
  }

  std::vector<RankMemory> memory;  // by rank
  std::map<plan::Rank, std::vector<std::size_t>> all;
  std::map<std::tuple<plan::Rank, std::int32_t, std::int32_t>, Time> received, released;
  std::int64_t dropped = 0;

 private:
  static std::size_t state_of(const RankMemory& m) {
    const plan::Role& role = *m.rank->role;
    std::string bytes;
    for (std::size_t b = 0; b < role.buffers.size(); ++b) {
      const plan::Buffer& buffer = role.buffers[b];
      const plan::Placement& place = role.memory.placements[b];
      const bool is_state =
          buffer.kind == plan::BufferKind::parameter || buffer.kind == plan::BufferKind::optimizer_state;
      for (int layer = 0; is_state && layer < std::max(1, buffer.layers); ++layer) {
        bytes.append(reinterpret_cast<const char*>(m.at(place.offset + layer * place.layer_stride)),
                     static_cast<std::size_t>(size_bytes(buffer.dtype, buffer.elements)));
      }
    }
    return std::hash<std::string>{}(bytes);
  }

  std::map<plan::OpId, const plan::Op*> ops_;
  std::mutex mutex_;
};

// Ranks: workers, servers, their replicas.
class Replicated {
 public:
  Replicated(int workers, int servers, const Overrides& mode)
      : workers_(workers),
        servers_(servers),
        job_(testing::tiny_job(testing::kTinyGpt,
                               words(joined(joined(joined(kBase, kServed), {{"dp", std::to_string(workers)},
                                                                            {"servers", std::to_string(servers)},
                                                                            {"server_replicas", "1"}}),
                                            mode)))),
        graph_(plan::build(job_)),
        data_(job_.workload.model.vocab),
        executor(graph_, data_, 7),
        states(graph_) {
    EXPECT_EQ(plan::validate(graph_), std::vector<std::string>{});
    states.memory = executor.memory();
  }

  RunResult run(int steps) {
    RunOptions options;
    options.steps = steps;
    options.timeout = std::chrono::seconds(20);
    options.poison = true;
    options.sink = &states;
    states.begin(workers_);
    return executor.run(options);
  }

  double& turns(plan::Rank rank, int worker) {
    const plan::Role& role = *states.memory.at(static_cast<std::size_t>(rank)).rank->role;
    std::byte* const at = states.memory[static_cast<std::size_t>(rank)].at(
        role.memory.placements.at(static_cast<std::size_t>(role.turns)).offset);
    return reinterpret_cast<double*>(at)[worker];
  }

  void expect_alike() {
    for (plan::Rank server = workers_; server < workers_ + servers_; ++server) {
      EXPECT_EQ(states.all[server], states.all[server + servers_]) << server;
      for (int worker = 0; worker < workers_; ++worker) {
        EXPECT_EQ(turns(server, worker), turns(server + servers_, worker));
      }
    }
  }

 private:
  const int workers_, servers_;
  const plan::Job job_;
  const plan::PlanGraph graph_;
  const testing::GrammarData data_;

 public:
  Executor executor;
  States states;
};

// In fp64, at every update; and no server hands parameters out before its replica has what they were updated by.
TEST(AsynchronousReplicas, AreTheirServersAtEveryUpdate) {
  constexpr int kSteps = 6;
  for (const Overrides& mode : std::vector<Overrides>{{{"staleness", "0"}},
                                                      {{"staleness", "2"}, {"elastic", "true"}},
                                                      {{"staleness", "\"unbounded\""}},
                                                      {{"staleness", "1"}, {"server_order", "random"}}}) {
    for (const int servers : {1, 2}) {
      SCOPED_TRACE(::testing::PrintToString(words(mode)));
      Replicated run(3, servers, mode);
      run.run(kSteps);
      run.expect_alike();
      EXPECT_GT(run.states.all[3].size(), std::size_t{3 * kSteps});
      EXPECT_EQ(run.turns(3, 0), kSteps);
      EXPECT_EQ(run.states.released.size(), static_cast<std::size_t>(3 * kSteps * servers));
      for (const auto& [release, start] : run.states.released) {
        const auto [server, step, instance] = release;
        EXPECT_LE(run.states.received.at({server + servers, step, instance}), start);
      }
    }
  }
}

// Worker 1 was two steps ahead of the others at server 0, and one at server 1: that much of what it sends again is
// dropped, by servers and replicas.
TEST(AsynchronousReplicas, NoUpdateIsMadeTwice) {
  constexpr int kSteps = 4;
  Replicated run(3, 2, {{"staleness", "\"unbounded\""}});
  run.executor.go_on_from(10);
  for (const auto& [server, ahead] : {std::pair{3, 2}, {4, 1}}) {
    for (const int rank : {server, server + 2}) {
      for (const int worker : {0, 1, 2}) {
        run.turns(rank, worker) = worker == 1 ? 10 + ahead : 10;
      }
    }
  }
  run.run(kSteps);
  run.expect_alike();
  EXPECT_EQ(run.states.dropped, 2 + 1);
  // Of three workers' four updates each; an update has as many states as the optimizer has ops.
  EXPECT_EQ((run.states.all[3].size() - 1) % (3 * kSteps - 2), 0u);
  EXPECT_EQ((run.states.all[4].size() - 1) % (3 * kSteps - 1), 0u);
  EXPECT_EQ(run.turns(3, 1), 10 + kSteps);
  EXPECT_EQ(run.turns(4, 2), 10 + kSteps);
}

// With one worker all is as on one rank.
TEST(AsynchronousReplicas, AreNoOtherTraining) {
  const Outcome one = run({}, 5);
  const Outcome served = run(joined(kServed, {{"staleness", "1"}, {"server_replicas", "1"}, {"servers", "2"}}), 5);
  EXPECT_EQ(served.loss, one.loss);
  expect_near(served, one, 0);
  EXPECT_EQ(served.staleness, (plan::Staleness{{0, 2 * 5}}));
}

}  // namespace
}  // namespace foretrain::exec
