// Ranks that share a GPU train as ranks on a CPU do, bit for bit where the kernels are the same, as those of the
// pretended GPU are; whatever order its streams run in.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "exec/checkpoint_state.h"
#include "exec/evaluate.h"
#include "plan/build.h"
#include "tests/exec/outcome.h"
#include "tests/exec/overrides.h"
#include "tests/exec/pretend_gpu.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"
#include "tests/support/message_of.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::kModels;
using testing::Outcome;
using testing::Overrides;
using testing::PretendGpu;
using testing::strategies;
using testing::Strategy;
using testing::words;

class Spans : public plan::SpanSink {
 public:
  void span(const plan::Span& s) override {
    const std::lock_guard lock(mutex_);
    timeline_.spans.push_back(s);
  }
  plan::Timeline take(int steps) {
    std::sort(timeline_.spans.begin(), timeline_.spans.end(), [](const plan::Span& a, const plan::Span& b) {
      return std::tie(a.rank, a.step, a.op) < std::tie(b.rank, b.step, b.op);
    });
    timeline_.step_ends.resize(static_cast<std::size_t>(steps));
    for (const plan::Span& s : timeline_.spans) {
      Time& end = timeline_.step_ends.at(static_cast<std::size_t>(s.step));
      end = std::max(end, s.end);
    }
    return std::move(timeline_);
  }

 private:
  std::mutex mutex_;
  plan::Timeline timeline_;
};

constexpr int kSteps = 2;

// On the GPU with poisoned memory, and its timeline is valid.
Outcome run(const plan::PlanGraph& graph, std::int64_t vocab, Gpu* gpu) {
  const testing::GrammarData data(vocab);
  Executor executor(graph, data, 7, nullptr, gpu);
  Spans spans;
  RunOptions options;
  options.steps = kSteps;
  options.timeout = std::chrono::seconds(20);
  options.poison = gpu != nullptr;
  options.sink = &spans;
  Outcome outcome = testing::train(graph, executor, data, options);
  EXPECT_EQ(plan::validate(graph, spans.take(kSteps)), std::vector<std::string>{});
  return outcome;
}

void expect_same_as_on_cpu(const char* model, const std::vector<std::string>& overrides, std::uint64_t seed) {
  SCOPED_TRACE(::testing::PrintToString(overrides));
  const plan::Job job = testing::tiny_job(model, overrides);
  const plan::PlanGraph graph = plan::build(job);
  const std::int64_t vocab = job.workload.model.vocab;
  const Outcome cpu = run(graph, vocab, nullptr);
  PretendGpu gpu(seed);
  const Outcome other = run(graph, vocab, &gpu);
  testing::expect_equal(cpu, other);
}

// Without an event both orders come about, with it one.
TEST(PretendedGpu, RunsItsStreamsInAnyOrderThatEventsAllow) {
  for (const bool has_event : {false, true}) {
    std::set<double> seen;
    for (std::uint64_t seed = 1; seed <= 32; ++seed) {
      PretendGpu gpu(seed);
      auto* const x = reinterpret_cast<double*>(gpu.allocate(Bytes{16}));
      const GpuStream a = gpu.create_stream(), b = gpu.create_stream();
      const GpuEvent event = gpu.create_event();
      gpu.on(a).fill({x, Dtype::fp64}, 1, 1.0);
      if (has_event) {
        gpu.record(event, a);
        gpu.wait(b, event);
      }
      gpu.on(b).add({x, Dtype::fp64}, {x + 1, Dtype::fp64}, 1);
      gpu.synchronise(b);
      gpu.synchronise(a);
      seen.insert(x[1]);
      gpu.destroy(a);
      gpu.destroy(b);
      gpu.destroy(event);
      gpu.release(reinterpret_cast<std::byte*>(x));
    }
    EXPECT_EQ(seen, has_event ? std::set{1.0} : (std::set{0.0, 1.0}));
  }
}

TEST(PretendedGpu, RefusesKernelsOnMemoryOfTheHosts) {
  PretendGpu gpu(1);
  const GpuStream stream = gpu.create_stream();
  double x = 0.0;
  EXPECT_THROW(gpu.on(stream).fill({&x, Dtype::fp64}, 1, 1.0), InternalError);
  gpu.destroy(stream);
}

TEST(Gpu, EveryStrategyAsOnACpu) {
  std::uint64_t seed = 1;
  for (const Strategy& s : strategies()) {
    if (std::string_view(s.name) == "loaders") {
      continue;  // runs on cores
    }
    const char* const precision = seed % 3 == 0 ? "fp64" : seed % 3 == 1 ? "fp32" : "bf16";
    expect_same_as_on_cpu(kModels[seed % 2], words(joined(kBase, joined(s.overrides, {{"precision", precision}}))),
                          seed);
    ++seed;
  }
}

// What is refused there says so before anything runs, and what runs it.
TEST(Gpu, RefusesWhatRunsOnCoresAlone) {
  const auto refusal = [](const char* text, const std::vector<std::string>& overrides) {
    const plan::PlanGraph graph = plan::build(testing::tiny_job(text, overrides));
    const testing::GrammarData data(61);
    PretendGpu gpu(1);
    return test::message_of([&] { Executor(graph, data, 1, nullptr, &gpu).run(testing::steps(1)); });
  };
  EXPECT_EQ(refusal(testing::kTinyGpt, {"dp=2", "loader_ranks=1"}),
            "strategy.loader_ranks: runs on cores so far, not on GPUs");
  EXPECT_EQ(refusal(testing::kTinyGpt, {"dp=2", "tp=2", "pp=2", "loader_ranks=2"}),
            "strategy.loader_ranks: runs on cores so far, not on GPUs");
  EXPECT_EQ(refusal(testing::kTinyClassifier, {}),
            "model: attention to padded sequences (head classifier) runs on cores so far, not on GPUs; expected "
            "--device cpu");
  EXPECT_EQ(refusal(testing::kTinyGpt, {"workload.data.sequences=24", "workload.data.cache=1 kB"}),
            "workload.data.cache: runs on cores so far, not on GPUs");
  EXPECT_EQ(refusal(testing::kTinyGpt, {"workload.data.prefetch=2"}),
            "workload.data.prefetch: runs on cores so far, not on GPUs");
}

TEST(Gpu, ProductsOfStrategiesAsOnACpu) {
  const std::vector<Overrides> cases = {
      {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"zero", "1"}, {"sequence_parallel", "true"}},
      {{"cp", "2"}, {"dp", "2"}, {"tp", "2"}, {"zero", "3"}, {"sequence_parallel", "true"}},
      {{"pp", "2"}, {"virtual_stages", "2"}, {"dp", "2"}, {"overlap_grad_reduce", "true"}, {"recompute", "full"}},
      {{"loss_chunks", "6"}, {"dp", "2"}, {"tp", "2"}, {"zero", "3"}, {"sequence_parallel", "true"}},
      {{"offload", R"(["optimizer"])"}, {"dp", "2"}, {"zero", "1"}, {"overlap_grad_reduce", "true"}},
      {{"offload", R"(["activations"])"}, {"pp", "2"}, {"offload_layers", "1"}},
      {{"offload", R"(["optimizer","activations"])"}, {"precision", "bf16"}},
  };
  std::uint64_t seed = 100;
  for (const Overrides& overrides : cases) {
    for (int i = 0; i < 3; ++i) {
      const char* const model = kModels[seed % 2];
      expect_same_as_on_cpu(model, words(joined(kBase, joined({{"precision", "fp32"}}, overrides))), seed++);
    }
  }
}

// Counts of tokens stay on the GPU.
TEST(Gpu, ExpertsAsOnACpu) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"dp=4", "ep=2"},
      {"tp=2", "dp=4", "sequence_parallel=true", "expert_tp=1", "ep=4", "shard=2", "zero=3"},
      {"cp=2", "dp=2", "ep=2", "tp=2", "cp_kind=all_to_all", "workload.model.kv_heads=4"},
      {"schedule=dualpipe", "pp=2", "dp=2", "ep=2"},
      {"offload=[\"activations\"]", "dp=2", "ep=2", "pp=2", "precision=bf16"},
  };
  std::uint64_t seed = 200;
  for (std::vector<std::string> all : cases) {
    all.insert(all.begin(), {"global_batch=8", "seq_len=12", "workload.model.hidden=40", "workload.model.heads=8",
                             "workload.model.head_dim=6", "workload.model.ffn_hidden=56", "padded_vocab=72"});
    expect_same_as_on_cpu(testing::kTinyMoe, all, seed++);
  }
}

// Queries of one sequence and keys of another, scores with a bias by distance.
TEST(Gpu, EncodersAndDecodersAsOnACpu) {
  std::uint64_t seed = 300;
  for (const Overrides& overrides : std::vector<Overrides>{{{"precision", "fp32"}},
                                                           {{"precision", "bf16"}, {"dp", "2"}, {"zero", "2"}},
                                                           {{"precision", "fp64"}, {"dp", "2"}, {"zero", "3"}},
                                                           {{"tp", "2"}, {"sequence_parallel", "true"}},
                                                           {{"dp", "2"}, {"recompute", "full"}},
                                                           {{"offload", R"(["optimizer"])"}, {"target_len", "16"}}}) {
    expect_same_as_on_cpu(testing::kTinyT5, words(joined(kBase, overrides)), seed++);
  }
}

// At 2^134 the gradients of the logits are no numbers in fp32, at 2^115 they are: the first step is skipped, by kernels
// that look at the guard on the GPU; or by the host where the update is there.
TEST(Gpu, StepsWhoseGradientsAreNoNumbersAreSkippedAsOnACpu) {
  const std::string scaling =
      R"(workload.loss_scaling={"initial":2.1778071482940062e40,"backoff":1.9073486328125e-06})";
  for (const std::vector<std::string>& overrides : std::vector<std::vector<std::string>>{
           {}, {"dp=2", "zero=1"}, {"pp=2"}, {"offload=[\"optimizer\"]"}, {"workload.optimizer.name=lamb"}}) {
    SCOPED_TRACE(::testing::PrintToString(overrides));
    std::vector<std::string> all{"precision=fp32", "global_batch=4", "seq_len=8", "padded_vocab=64", scaling};
    all.insert(all.end(), overrides.begin(), overrides.end());
    const plan::PlanGraph graph = plan::build(testing::tiny_job(testing::kTinyGpt, all));
    const testing::GrammarData data(61);
    PretendGpu gpu(3);
    Executor cpu(graph, data, 1), other(graph, data, 1, nullptr, &gpu);
    RunOptions options;
    options.steps = 1;
    const std::vector<FullTensor> before = cpu.parameters();
    EXPECT_FALSE(std::isfinite(cpu.run(options).grad_norm[0]));
    EXPECT_FALSE(std::isfinite(other.run(options).grad_norm[0]));
    testing::expect_equal(other.parameters(), before);
    options.steps = 2;
    const RunResult expected = cpu.run(options), result = other.run(options);
    EXPECT_TRUE(std::isfinite(expected.grad_norm[0]));
    EXPECT_EQ(result.grad_norm, expected.grad_norm);
    EXPECT_EQ(result.loss, expected.loss);
    testing::expect_equal(other.parameters(), cpu.parameters());
  }
}

// A step later than on a CPU is soon enough.
TEST(Gpu, EndsByNameWhereStepsAreSkippedForTooLong) {
  const testing::GrammarData data(61);
  PretendGpu gpu(3);
  Executor executor(plan::build(testing::tiny_job(
                        testing::kTinyGpt, {"precision=fp32", "global_batch=4", "seq_len=8", "padded_vocab=64", "dp=2",
                                            R"(workload.loss_scaling={"initial":1e300,"limit":3})"})),
                    data, 1, nullptr, &gpu);
  RunOptions options;
  options.steps = 10;
  try {
    executor.run(options);
    ADD_FAILURE() << "went on";
  } catch (const InfeasibleError& e) {
    EXPECT_NE(std::string(e.what()).find("no numbers in 3 steps in a row"), std::string::npos) << e.what();
  }
}

plan::PlanGraph small_graph(std::vector<std::string> overrides) {
  overrides.insert(overrides.end(), {"global_batch=4", "seq_len=8", "padded_vocab=64"});
  return plan::build(testing::tiny_job(testing::kTinyGpt, overrides));
}

TEST(Gpu, RefusesToComputeInFp16) {
  const testing::GrammarData data(61);
  PretendGpu gpu(2);
  EXPECT_THROW(Executor(small_graph({"dp=2", "precision=fp16"}), data, 1, nullptr, &gpu), InputError);
  const Executor sends(small_graph({"dp=2", "precision=fp32", "compression=fp16"}), data, 1, nullptr, &gpu);
}

TEST(Gpu, ParametersComeBackAsTheyWereSet) {
  const testing::GrammarData data(61);
  PretendGpu gpu(1);
  Executor executor(small_graph({"dp=2", "zero=1", "precision=bf16", "offload=[\"optimizer\"]"}), data, 1, nullptr,
                    &gpu);
  std::vector<FullTensor> parameters = executor.parameters();
  double next = 0.0;
  for (FullTensor& tensor : parameters) {
    for (double& x : tensor.values) {
      x = next = next < 100.0 ? next + 0.5 : 0.0;  // exact in bf16
    }
  }
  executor.set_parameters(parameters);
  testing::expect_equal(executor.parameters(), parameters);
}

// State as the checkpoint writer and reader see it.
class Keeper : public StateKeeper {
 public:
  bool wants(int steps_done) const override { return steps_done == 2; }
  void keep(const RankMemory& memory, int) override {
    const ShardSource source(memory);
    std::vector<std::byte> payload(static_cast<std::size_t>(source.payload_bytes()));
    source.copy_to(payload.data());
    const std::lock_guard lock(mutex_);
    shards.emplace_back(source.header(), std::move(payload));
  }

  std::vector<std::pair<ShardHeader, std::vector<std::byte>>> shards;

 private:
  std::mutex mutex_;
};

TEST(Gpu, GoesOnFromWhatWasKept) {
  const testing::GrammarData data(61);
  for (const std::vector<std::string>& overrides : std::vector<std::vector<std::string>>{
           {"pp=2", "precision=fp32"}, {"dp=2", "zero=2", "precision=bf16"}, {"dp=2", "offload=[\"optimizer\"]"}}) {
    const plan::PlanGraph graph = small_graph(overrides);
    PretendGpu gpu(11);
    Keeper keeper;
    RunOptions options;
    options.steps = 4;
    options.keeper = &keeper;
    Executor whole(graph, data, 1, nullptr, &gpu), second(graph, data, 2, nullptr, &gpu);
    const std::vector<double> expected = whole.run(options).loss;
    StateTargets targets(second.memory(), 61);
    for (const auto& [header, payload] : keeper.shards) {
      const std::byte* at = payload.data();
      for (const ShardPiece& piece : header.pieces) {
        targets.fill(header, piece, at);
        at += header.piece_bytes(piece);
      }
    }
    EXPECT_EQ(targets.missing(), "");
    second.go_on_from(2);
    options.steps = 2;
    options.keeper = nullptr;
    EXPECT_EQ(second.run(options).loss, (std::vector<double>{expected[2], expected[3]})) << overrides[0];
  }
}

// Kernels take 1 ms and what the host does 50 us: it is ahead, and stays so from step to step, so that a stream that
// has something to do goes on at once.
TEST(Gpu, LossIsReadWhileTheNextStepRuns) {
  testing::PretendCosts costs;
  costs.kernel = 1e-3;
  costs.submit = 50e-6;
  PretendGpu gpu(costs);
  const testing::GrammarData data(61);
  Executor executor(small_graph({"precision=fp32"}), data, 1, nullptr, &gpu);
  Spans spans;
  RunOptions options;
  options.steps = kSteps;
  options.sink = &spans;
  executor.run(options);
  std::vector<plan::Span> compute = spans.take(kSteps).spans;
  compute.erase(
      std::remove_if(compute.begin(), compute.end(), [](const auto& s) { return s.stream != plan::kCompute; }),
      compute.end());
  ASSERT_GT(compute.size(), 10U);
  for (std::size_t i = 1; i < compute.size(); ++i) {
    if (compute[i].step > compute.front().step && compute[i].step != compute[i - 1].step) {
      EXPECT_LT(compute[i].start - compute[i - 1].end, time_from_seconds(25e-6)) << "step " << compute[i].step;
    }
  }
}

// ---- failures -------------------------------------------------------------------------------------------------------

TEST(Gpu, SaysBeforehandWhatDoesNotFit) {
  const testing::GrammarData data(61);
  const plan::PlanGraph graph = small_graph({"dp=2"});
  const plan::Role& role = graph.roles[0];
  const std::int64_t needed = 2 * (role.memory.arena.value + std::ssize(role.streams) * 4096);
  PretendGpu enough(1, Bytes{needed}), short_of_one(1, Bytes{needed - 1});
  EXPECT_NO_THROW(Executor(graph, data, 1, nullptr, &enough));
  EXPECT_THROW(Executor(graph, data, 1, nullptr, &short_of_one), InfeasibleError);
}

std::string failure_of(const DataSource& data, std::chrono::milliseconds timeout) {
  PretendGpu gpu(5);
  Executor executor(small_graph({"dp=4"}), data, 1, nullptr, &gpu);
  RunOptions options;
  options.steps = 3;
  options.timeout = timeout;
  try {
    executor.run(options);
  } catch (const EnvironmentError& e) {
    return e.what();
  }
  return "";
}

TEST(Gpu, OneRanksExceptionStopsAll) {
  const testing::TroubledData data(1, 1, [] { throw EnvironmentError("the disk is gone"); });
  EXPECT_EQ(failure_of(data, std::chrono::seconds(20)), "the disk is gone");
}

TEST(Gpu, NamesTheRankThatHangs) {
  const testing::TroubledData data(1, 1, [&] { data.hang(); });
  const std::string failure = failure_of(data, testing::kHangTimeout);
  EXPECT_NE(failure.find("waited 3000 ms for rank 1 in "), std::string::npos) << failure;
  EXPECT_NE(failure.find("ranks that wait for nobody: 1"), std::string::npos) << failure;
}

}  // namespace
}  // namespace foretrain::exec
