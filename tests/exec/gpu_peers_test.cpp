// Ranks with a GPU each train as ranks on a CPU do, bit for bit where kernels and the order of sums are the same, as
// those of pretended GPUs and their fabric are. Threads take the parts of processes.
#include "exec/gpu_peers.h"

#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <thread>

#include "base/error.h"
#include "plan/build.h"
#include "tests/exec/gpu_processes.h"
#include "tests/exec/outcome.h"
#include "tests/exec/overrides.h"
#include "tests/exec/pretend_fabric.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"

namespace foretrain::exec {
namespace {

using testing::in_processes;
using testing::joined;
using testing::kBase;
using testing::kModels;
using testing::Outcome;
using testing::Overrides;
using testing::PretendFabric;
using testing::PretendGpu;
using testing::TroubledData;
using testing::words;

constexpr int kSteps = 2;

plan::PlanGraph small_graph(std::vector<std::string> overrides) {
  overrides.insert(overrides.end(), {"global_batch=4", "seq_len=8", "padded_vocab=64"});
  return plan::build(testing::tiny_job(testing::kTinyGpt, overrides));
}

// ---- circles --------------------------------------------------------------------------------------------------------

std::multiset<std::vector<plan::Rank>> circles(const std::vector<std::string>& overrides) {
  const Circles all = circles_of(small_graph(overrides));
  return {all.members.begin(), all.members.end()};
}

// tp is the fastest axis: rows of the mesh are tp groups, columns dp groups. The gradient norm is summed over the ranks
// of a model, on a stream of its own.
TEST(Circles, AreTheGroupsOfAStream) {
  using Expected = std::multiset<std::vector<plan::Rank>>;
  EXPECT_EQ(circles({}), Expected{});
  EXPECT_EQ(circles({"dp=2"}), (Expected{{0, 1}}));
  EXPECT_EQ(circles({"tp=2", "dp=2"}), (Expected{{0, 1}, {2, 3}, {0, 2}, {1, 3}, {0, 1}, {2, 3}}));
}

// Activations go one way and gradients the other, on streams of their own; and the norm.
TEST(Circles, AreTheEndsOfMessages) {
  EXPECT_EQ(circles({"pp=2"}), (std::multiset<std::vector<plan::Rank>>{{0, 1}, {0, 1}, {0, 1}}));
}

// ---- training -------------------------------------------------------------------------------------------------------

Outcome run(const plan::PlanGraph& graph, const DataSource& data, Processes* processes, Gpu* gpu) {
  Executor executor(graph, data, 7, processes, gpu);
  RunOptions options;
  options.steps = kSteps;
  options.timeout = std::chrono::seconds(20);
  options.poison = gpu != nullptr;
  return testing::train(graph, executor, data, options);
}

void expect_same_as_on_cpu(const char* model, const std::vector<std::string>& overrides, std::uint64_t seed) {
  SCOPED_TRACE(::testing::PrintToString(overrides));
  const plan::Job job = testing::tiny_job(model, overrides);
  const plan::PlanGraph graph = plan::build(job);
  const auto ranks = static_cast<int>(graph.mesh.ranks());
  if (ranks == 1) {
    return;
  }
  const testing::GrammarData data(job.workload.model.vocab);
  const Outcome cpu = run(graph, data, nullptr, nullptr);
  PretendFabric fabric;
  Outcome other;
  const auto failures = in_processes(ranks, seed, fabric, [&](Processes& processes, Gpu& gpu) {
    Outcome outcome = run(graph, data, &processes, &gpu);
    if (processes.number() == 0) {
      other = std::move(outcome);
    }
  });
  EXPECT_EQ(failures, std::vector<std::string>(static_cast<std::size_t>(ranks)));
  EXPECT_EQ(fabric.circles(), std::ssize(circles_of(graph).members));
  testing::expect_equal(cpu, other);
}

TEST(GpuPeers, EveryStrategyAsOnACpu) {
  std::uint64_t seed = 1;
  for (const testing::Strategy& s : testing::strategies()) {
    if (s.overrides.contains("loader_ranks")) {
      continue;  // runs on cores
    }
    const char* const precision = seed % 3 == 0 ? "fp64" : seed % 3 == 1 ? "fp32" : "bf16";
    expect_same_as_on_cpu(kModels[seed % 2], words(joined(kBase, joined(s.overrides, {{"precision", precision}}))),
                          seed);
    ++seed;
  }
}

TEST(GpuPeers, ProductsOfStrategiesAsOnACpu) {
  const std::vector<Overrides> cases = {
      {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"zero", "1"}, {"sequence_parallel", "true"}},
      {{"cp", "2"}, {"dp", "2"}, {"tp", "2"}, {"zero", "3"}, {"sequence_parallel", "true"}},
      {{"pp", "2"}, {"virtual_stages", "2"}, {"dp", "2"}, {"overlap_grad_reduce", "true"}, {"recompute", "full"}},
      {{"offload", R"(["activations"])"}, {"pp", "2"}, {"offload_layers", "1"}},
  };
  std::uint64_t seed = 100;
  for (const Overrides& overrides : cases) {
    expect_same_as_on_cpu(kModels[seed % 2], words(joined(kBase, joined({{"precision", "fp32"}}, overrides))), seed);
    ++seed;
  }
}

// Counts of tokens come to the host before rows are sent.
TEST(GpuPeers, ExpertsAsOnACpu) {
  const std::vector<std::vector<std::string>> cases = {
      {"dp=4", "ep=2"},
      {"tp=2", "dp=4", "sequence_parallel=true", "expert_tp=1", "ep=4", "shard=2", "zero=3"},
      {"cp=2", "dp=2", "ep=2", "tp=2", "cp_kind=all_to_all", "workload.model.kv_heads=4"},
      {"schedule=dualpipe", "pp=2", "dp=2", "ep=2"},
  };
  std::uint64_t seed = 200;
  for (std::vector<std::string> all : cases) {
    all.insert(all.begin(), {"global_batch=8", "seq_len=12", "workload.model.hidden=40", "workload.model.heads=8",
                             "workload.model.head_dim=6", "workload.model.ffn_hidden=56", "padded_vocab=72"});
    expect_same_as_on_cpu(testing::kTinyMoe, all, seed++);
  }
}

// ---- failures -------------------------------------------------------------------------------------------------------

// Of rank 1 in step 1: its last sequence of four.
TroubledData troubled(std::function<void()> trouble) {
  return {1, 3, std::move(trouble)};
}

std::vector<std::string> failures_of(PretendFabric& fabric, const TroubledData& data,
                                     std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  const plan::PlanGraph graph = small_graph({"dp=2"});
  return in_processes(2, 5, fabric, [&](Processes& processes, Gpu& gpu) {
    Executor executor(graph, data, 1, &processes, &gpu);
    RunOptions options;
    options.steps = 3;
    options.timeout = timeout;
    executor.run(options);
  });
}

// Rank 0's streams wait for rank 1's until they are aborted.
TEST(GpuPeers, OneRanksExceptionStopsAll) {
  PretendFabric fabric;
  const auto failures = failures_of(fabric, troubled([] { throw EnvironmentError("the disk is gone"); }));
  EXPECT_NE(failures[0].find("the disk is gone"), std::string::npos) << failures[0];
  EXPECT_EQ(failures[1], "the disk is gone");
}

TEST(GpuPeers, NamesTheRankThatHangs) {
  PretendFabric fabric;
  const TroubledData data = troubled([&] { data.hang(); });
  const auto failures = failures_of(fabric, data, testing::kHangTimeout);
  EXPECT_NE(failures[0].find("rank 0 waited 3000 ms for its device, and rank 1, to end stage 0, "), std::string::npos)
      << failures[0];
}

TEST(GpuPeers, SaysWhatTheLibrarySaysOfALostRank) {
  PretendFabric fabric;
  const TroubledData data = troubled([&] {
    fabric.break_down();
    data.hang();
  });
  const auto failures = failures_of(fabric, data);
  EXPECT_NE(failures[0].find("the exchange of ranks 0, 1 has failed: a member is gone"), std::string::npos)
      << failures[0];
}

TEST(GpuPeers, AreAsManyAsProcesses) {
  PretendFabric fabric;
  const plan::PlanGraph graph = small_graph({"dp=4"});
  const testing::GrammarData data(61);
  const auto failures = in_processes(
      2, 5, fabric, [&](Processes& processes, Gpu& gpu) { Executor executor(graph, data, 1, &processes, &gpu); });
  for (const std::string& failure : failures) {
    EXPECT_NE(failure.find("4 ranks are not for 2 processes; start 1 or 4"), std::string::npos) << failure;
  }
}

}  // namespace
}  // namespace foretrain::exec
