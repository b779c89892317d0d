#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/files.h"
#include "cli/measure.h"
#include "cli/verbs.h"
#include "plan/build.h"
#include "reports/compare.h"

namespace foretrain::cli {

namespace {

constexpr int kWarmUpSteps = 3;  // caches, page tables, clock frequency
constexpr std::int64_t kMostSteps = 100'000;

plan::Timeline measured_now(const JobArguments& arguments, const plan::Job& job, const plan::PlanGraph& graph,
                            std::int64_t steps, const Console& console) {
  check_runnable(arguments, job, graph);
  const workloads::Workload& w = job.workload;
  const exec::Text text = exec::load_text(w.data.path);
  constexpr std::uint64_t kSeed = 1;
  const exec::TextWindows windows = exec::training_windows(text, w.seq_len, w.global_batch, w.model.vocab, kSeed);
  const InterruptWatch watch;
  exec::Executor executor(graph, windows, kSeed);
  MeasureOptions options;
  options.steps = kWarmUpSteps + static_cast<int>(steps);
  options.traced_steps = static_cast<int>(steps);
  return measure(executor, graph, options, watch, console).timeline;
}

}  // namespace

int compare_command(const std::vector<std::string>& arguments, Console& console) {
  JobArguments job_arguments;
  ModelArguments models;
  std::int64_t steps = 20;
  std::string timeline_path, trace_path;
  std::optional<double> max_error;
  bool json = false;
  Options options("compare", "sets the forecast of a job against a real run of it, op kind by op kind");
  job_arguments.add_to(options);
  options.text("timeline", "FILE", &timeline_path, "the real run: a timeline of 'foretrain run'; without it, runs now");
  options.integer("steps", &steps, 1, kMostSteps, "steps to run now, after three to warm up [20]");
  options.number("max-error", &max_error, 0, "exit 4 when the step time is off by more, as a fraction: 0.08");
  options.text("trace", "FILE", &trace_path, "writes both timelines side by side as a trace for ui.perfetto.dev");
  options.flag("json", &json, "one document, foretrain.compare/1");
  models.add_to(options);
  options.examples({"foretrain compare job.json --steps 20", "foretrain compare job.json dp=2 --max-error 0.08",
                    "foretrain compare job.json --timeline t.json --trace both.trace.json"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }

  const plan::Job job = job_arguments.load();
  const plan::PlanGraph graph = plan::build(job);
  OutputFiles files("", trace_path);
  plan::Timeline predicted;
  const sim::Simulation simulation = simulate(job, graph, models, &predicted);
  if (job.cluster.profile == nullptr) {
    console.warning("the forecast is made from generic figures; 'foretrain calibrate' measures this machine");
  }
  const plan::Timeline measured =
      timeline_path.empty() ? measured_now(job_arguments, job, graph, steps, console) : read_timeline(timeline_path);
  const reports::Comparison comparison = reports::compare(graph, predicted, measured);
  if (files.wants_trace()) {
    const auto last = static_cast<std::int32_t>(simulation.step_ends.size()) - 1;
    files.write_trace(graph, {reports::traced_step(predicted, "forecast", last),
                              reports::traced_step(measured, "measured", comparison.median_step)});
  }
  console.result(json ? reports::to_json(comparison, job, max_error).dump(2) + "\n"
                      : reports::to_text(comparison, job, max_error, console.colour()));
  return max_error && !(std::abs(comparison.error()) <= *max_error) ? kThresholdBreached : kOk;
}

}  // namespace foretrain::cli
