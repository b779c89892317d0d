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

void simulate_job(benchmark::State& state, const Case& c, bool fold) {
  plan::Job job = plan::load_job(catalogue_path("workloads/jobs", "job", c.job), c.overrides);
  topologies::load_profile_of(job.cluster);
  const plan::PlanGraph graph = plan::build(job);
  Options options;
  options.fold_time = fold;
  for (auto _ : state) {
    benchmark::DoNotOptimize(simulate(graph, job.cluster, options).step_time);
  }
}

const int registered = [] {
  for (const Case& c : cases()) {
    for (const bool fold : {true, false}) {
      benchmark::RegisterBenchmark((std::string(c.name) + (fold ? "/folded" : "/op_by_op")).c_str(),
                                   [&c, fold](benchmark::State& s) { simulate_job(s, c, fold); })
          ->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace foretrain::sim
