// `estimate --batch`: forecasts per second of processor time, from the text of a job to that of its forecast. Run from
// anywhere: jobs come from the catalogue.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/batch.h"
#include "cli/console.h"

namespace foretrain::cli {
namespace {

// GPT-3 175B on 1,024 A100 in plans that differ in all that a step's time and memory depend on most.
std::string jobs(const std::vector<int>& stages) {
  std::string lines;
  for (const int pp : stages) {
    for (const int tp : {4, 8}) {
      for (const int micro_batch : {1, 2}) {
        for (const char* const recompute : {"selective", "full"}) {
          for (const int zero : {0, 1}) {
            lines += fmt::format(
                R"({{"job": "gpt3-175b-1024-a100", "set": ["dp={}", "tp={}", "pp={}", "micro_batch={}", "recompute={}", )"
                R"("zero={}"]}})"
                "\n",
                1024 / (tp * pp), tp, pp, micro_batch, recompute, zero);
          }
        }
      }
    }
  }
  return lines;
}

void batch_bench(benchmark::State& state, const std::vector<int>& stages) {
  std::string lines = jobs(stages);
  std::int64_t forecasts = 0;
  for (auto _ : state) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(fmemopen(lines.data(), lines.size(), "r"), std::fclose);
    std::string out;
    Console console;
    console.capture(&out);
    estimate_batch(in.get(), "jobs", {}, {}, {}, console);
    if (out.find("\"error\"") != std::string::npos) {
      state.SkipWithError(out.substr(out.find("\"error\"")).c_str());
      break;
    }
    forecasts += std::count(out.begin(), out.end(), '\n');
  }
  state.SetItemsProcessed(forecasts);
}

const int registered = [] {
  const auto add = [](const char* name, const std::vector<int>& stages) {
    benchmark::RegisterBenchmark(name, [stages](benchmark::State& s) { batch_bench(s, stages); })
        ->Unit(benchmark::kMillisecond)
        ->MeasureProcessCPUTime();
  };
  add("gpt3_175b/few_stages", {4, 8});
  add("gpt3_175b/many_stages", {16, 32});
  return 0;
}();

}  // namespace
}  // namespace foretrain::cli
