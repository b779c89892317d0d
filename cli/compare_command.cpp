#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/files.h"
#include "cli/measure.h"
#include "cli/named_hosts.h"
#include "cli/run_data.h"
#include "cli/together.h"
#include "cli/verbs.h"
#include "plan/build.h"
#include "plan/foreign/measured_steps.h"
#include "reports/compare.h"
#include "reports/compare_steps.h"

namespace foretrain::cli {

namespace {

constexpr int kWarmUpSteps = 3;  // caches, page tables, clock frequency
constexpr std::int64_t kMostSteps = 100'000;

struct CompareArguments {
  JobArguments job;
  DeviceArguments device;
  ModelArguments models;
  std::int64_t steps = 20;
  std::string timeline_path, trace_path, log_path;
  std::optional<double> max_error;
  bool json = false;
};

constexpr std::uint64_t kSeed = 1;

// A step of the forecast finds caches full.
std::int64_t warm_up_steps(const plan::DataSet& data, std::int64_t per_step) {
  const std::int64_t first_epoch = data.kept > 0 ? (data.per_epoch + per_step - 1) / per_step : 0;
  return std::max<std::int64_t>(kWarmUpSteps, first_epoch);
}

// On process 0; elsewhere without spans.
Measurement measured_now(const CompareArguments& a, const plan::Job& job, const plan::PlanGraph& graph,
                         const TrainingData& data, exec::Processes& processes, exec::Gpu* gpu, Console& console) {
  const InterruptWatch watch;
  exec::Executor executor(graph, data.source(), kSeed, &processes, gpu);
  if (processes.count() > 1) {
    console.note(rank_table(processes, job.strategy));
  }
  MeasureOptions options;
  options.steps = static_cast<int>(warm_up_steps(graph.data, graph.sequences_per_step) + a.steps);
  options.traced_steps = static_cast<int>(a.steps);
  options.device = a.device.word;
  hold_back(options, job, graph);
  return measure(executor, graph, options, watch, console);
}

// `measure` runs the job, once the forecast is made.
int compare(const CompareArguments& a, const plan::Job& job, const plan::PlanGraph& graph, bool judges,
            const std::function<Measurement()>& measure, Console& console) {
  OutputFiles files("", judges ? a.trace_path : "");
  plan::Timeline predicted;
  const sim::Simulation simulation = simulate(job, graph, a.models, &predicted);
  if (job.cluster.profile == nullptr) {
    console.warning(
        fmt::format("the forecast is made from generic figures; 'foretrain calibrate{}' measures this machine",
                    a.device.is_gpu() ? " --device cuda" : ""));
  }
  const Measurement measurement = measure();
  const plan::Timeline& measured = measurement.timeline;
  if (!judges) {
    return kOk;
  }
  reports::Comparison comparison = reports::compare(graph, predicted, measured);
  comparison.predicted_staleness = simulation.staleness;
  comparison.measured_staleness = measurement.staleness;
  if (files.wants_trace()) {
    const auto last = static_cast<std::int32_t>(simulation.step_ends.size()) - 1;
    files.write_trace(graph, {reports::traced_step(predicted, "forecast", last),
                              reports::traced_step(measured, "measured", comparison.median_step)});
  }
  console.result(a.json ? reports::to_json(comparison, job, a.max_error).dump(2) + "\n"
                        : reports::to_text(comparison, job, a.max_error, console.colour()));
  return a.max_error && !(std::abs(comparison.error()) <= *a.max_error) ? kThresholdBreached : kOk;
}

// Against what other tools measured of the job, wherever it ran.
int compare_log(const CompareArguments& a, Console& console) {
  if (!a.timeline_path.empty() || !a.trace_path.empty()) {
    throw InputError(fmt::format("--log cannot go with {}: a log has no ops to set beside the forecast's",
                                 a.timeline_path.empty() ? "--trace" : "--timeline"));
  }
  const plan::Job job = a.device.load(a.job, 1);
  plan::MeasuredSteps measured = plan::read_measured_steps(a.log_path, job);
  for (const std::string& warning : measured.warnings) {
    console.warning(warning);
  }
  const plan::PlanGraph graph = plan::build(job);
  plan::Timeline predicted;
  simulate(job, graph, a.models, &predicted);
  const reports::StepComparison comparison = reports::compare_steps(graph, predicted, std::move(measured));
  console.result(a.json ? reports::to_json(comparison, job, a.max_error).dump(2) + "\n"
                        : reports::to_text(comparison, job, a.max_error, console.colour()));
  return a.max_error && !(std::abs(comparison.error()) <= *a.max_error) ? kThresholdBreached : kOk;
}

}  // namespace

int compare_command(const std::vector<std::string>& arguments, Console& console) {
  CompareArguments a;
  Options options("compare", "sets the forecast of a job against a real run of it, op kind by op kind");
  a.job.add_to(options);
  a.device.add_to(options);
  a.device.add_deterministic_to(options);
  options.text("timeline", "FILE", &a.timeline_path,
               "the real run: a timeline of 'foretrain run'; without it, runs now");
  options.text("log", "FILE", &a.log_path,
               "the real run, of another tool: a log of Megatron-LM, torchtitan or DeepSpeed, or a trace of PyTorch's "
               "profiler");
  options.integer("steps", &a.steps, 1, kMostSteps,
                  "steps to run now, after three to warm up, or an epoch that fills a data.cache [20]");
  options.number("max-error", &a.max_error, 0, "exit 4 when the step time is off by more, as a fraction: 0.08");
  options.text("trace", "FILE", &a.trace_path, "writes both timelines side by side as a trace for ui.perfetto.dev");
  options.flag("json", &a.json, "one document, foretrain.compare/1");
  a.models.add_to(options);
  options.examples({"foretrain compare job.json --steps 20", "foretrain compare job.json dp=2 --max-error 0.08",
                    "foretrain compare job.json --timeline t.json --trace both.trace.json",
                    "foretrain compare llama3-70b-64-h100 --log megatron.log"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (!a.log_path.empty()) {
    return compare_log(a, console);
  }
  if (!a.timeline_path.empty()) {
    const plan::Job job = a.device.load(a.job, 1);
    return compare(
        a, job, plan::build(job), true,
        [&] {
          Measurement measurement;
          measurement.timeline = read_timeline(a.timeline_path);
          return measurement;
        },
        console);
  }
  const std::unique_ptr<exec::Processes> processes = exec::join_processes();
  plan::Job job;
  plan::PlanGraph graph;
  std::unique_ptr<const TrainingData> data;
  std::unique_ptr<exec::Gpu> gpu;
  const auto prepare = [&] {
    job = a.device.load(a.job, processes->count());
    graph = plan::build(job);
    check_runnable(a.job, job, graph, *processes, a.device);
    gpu = a.device.open(*processes);
    data = std::make_unique<const TrainingData>(job, kSeed);
    return plan::resolved(job).dump();
  };
  const auto measure = [&] { return measured_now(a, job, graph, *data, *processes, gpu.get(), console); };
  return together(*processes, console, prepare, [&] {
    take_seats(job, *processes, console);
    return compare(a, job, graph, processes->number() == 0, measure, console);
  });
}

}  // namespace foretrain::cli
