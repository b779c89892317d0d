// simulate() without a sink, folded and op by op. Run from anywhere: jobs come from the catalogue.
#include <benchmark/benchmark.h>

#include "base/catalogue.h"
#include "plan/build.h"
#include "plan/job.h"
#include "sim/simulator.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

struct Case {
  const char* name;
  const char* job;
  std::vector<std::string> overrides;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"gpt3_175b_on_1024", "gpt3-175b-1024-a100", {}},
      {"gpt3_175b_on_1024_interleaved", "gpt3-175b-1024-a100", {"virtual_stages=3", "schedule=interleaved"}},
      {"gpt3_175b_on_131072", "gpt3-175b-1024-a100", {"dp=2048", "nodes=16384", "global_batch=196608"}},
      {"megatron_1t_on_512", "megatron-1t-512-a100", {}},
  };
  return all;
}

struct Folding {
  const char* name;
  bool ranks, time;
};

void simulate_job(benchmark::State& state, const Case& c, const Folding& folding) {
  plan::Job job = plan::load_job(catalogue_path("workloads/jobs", "job", c.job), c.overrides);
  topologies::load_profile_of(job.cluster);
  const plan::PlanGraph graph = plan::build(job);
  Options options;
  options.fold_ranks = folding.ranks;
  options.fold_time = folding.time;
  std::int64_t ops = 0;  // of all steps
  for (auto _ : state) {
    const Simulation simulation = simulate(graph, job.cluster, options);
    ops += simulation.ops;
    benchmark::DoNotOptimize(simulation.step_time);
  }
  if (!folding.time) {
    state.counters["ops"] = static_cast<double>(ops) / static_cast<double>(state.iterations());
    state.counters["ops/s"] = benchmark::Counter(static_cast<double>(ops), benchmark::Counter::kIsRate);
  }
}

const int registered = [] {
  static constexpr Folding kFoldings[] = {
      {"/folded", true, true}, {"/op_by_op", true, false}, {"/every_rank", false, false}};
  for (const Case& c : cases()) {
    for (const Folding& f : kFoldings) {
      if (!f.ranks && std::string(c.name) != "gpt3_175b_on_1024") {
        continue;  // minutes and more
      }
      benchmark::RegisterBenchmark((std::string(c.name) + f.name).c_str(), [&c, &f](benchmark::State& s) {
        simulate_job(s, c, f);
      })->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace foretrain::sim
