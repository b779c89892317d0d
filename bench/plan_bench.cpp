// What an estimate does beside simulate(): the job from its file, the graph, its memory and the bound on that. Run from
// anywhere: jobs come from the catalogue.
#include <benchmark/benchmark.h>

#include <string>

#include "base/catalogue.h"
#include "plan/build.h"
#include "plan/device_memory.h"
#include "plan/job.h"
#include "topologies/profile.h"

namespace foretrain::plan {
namespace {

Job load(const std::string& name) {
  Job job = load_job(catalogue_path("workloads/jobs", "job", name), {});
  topologies::load_profile_of(job.cluster);
  return job;
}

void load_bench(benchmark::State& state, const std::string& name) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(load(name).cluster.profile.get());
  }
}

void build_bench(benchmark::State& state, const std::string& name) {
  const Job job = load(name);
  for (auto _ : state) {
    benchmark::DoNotOptimize(build(job).roles.size());
  }
}

void memory_bench(benchmark::State& state, const std::string& name) {
  const Job job = load(name);
  const PlanGraph graph = build(job);
  for (auto _ : state) {
    benchmark::DoNotOptimize(memory_fit(job, graph).demand.value);
  }
}

void least_bench(benchmark::State& state, const std::string& name) {
  const Job job = load(name);
  const PlanGraph graph = build(job);
  for (auto _ : state) {
    benchmark::DoNotOptimize(least_demand(job, graph).value);
  }
}

const int registered = [] {
  for (const char* const name : {"gpt3-175b-1024-a100", "llama3.1-405b-16384-h100", "megatron-1t-512-a100"}) {
    const auto add = [name](const char* what, void (*bench)(benchmark::State&, const std::string&)) {
      benchmark::RegisterBenchmark((std::string(name) + what).c_str(), [name, bench](benchmark::State& s) {
        bench(s, name);
      })->Unit(benchmark::kMicrosecond);
    };
    add("/load", load_bench);
    add("/build", build_bench);
    add("/memory", memory_bench);
    add("/least_memory", least_bench);
  }
  return 0;
}();

}  // namespace
}  // namespace foretrain::plan
