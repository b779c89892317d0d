#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/batch.h"
#include "cli/device.h"
#include "cli/files.h"
#include "cli/forecast.h"
#include "cli/job.h"
#include "cli/verbs.h"
#include "cli/whole_run.h"
#include "plan/build.h"
#include "plan/dump.h"
#include "plan/schedule.h"
#include "reports/schedule.h"

namespace foretrain::cli {

namespace {

std::string dump(const plan::Job& job, const std::string& form) {
  if (form == "schedule") {
    return reports::to_text(std::string(plan::name(job.strategy.schedule)),
                            plan::make_schedule(job.strategy, static_cast<int>(job.microbatches())),
                            static_cast<int>(job.strategy.ways()));
  }
  const plan::PlanGraph graph = plan::build(job);
  if (form == "text") {
    return plan::to_text(graph);
  }
  if (form == "json") {
    return plan::to_json(graph);
  }
  std::string out;
  for (std::size_t role = 0; role < graph.roles.size(); ++role) {
    out += plan::to_dot(graph, static_cast<int>(role));
  }
  return out;
}

void refuse_beside_batch(const std::vector<std::pair<bool, const char*>>& given) {
  for (const auto& [is_given, option] : given) {
    if (is_given) {
      throw InputError(fmt::format("{} and --batch exclude each other", option));
    }
  }
}

int estimate_batch(const std::string& path, const JobArguments& arguments, const ModelArguments& models,
                   const WholeRunArguments& whole_run, Console& console) {
  std::vector<std::string> overrides = arguments.overrides;
  if (!arguments.path.empty()) {  // no JOB stands before them
    if (arguments.path.find('=') == std::string::npos) {
      throw InputError(
          fmt::format("\"{}\" and --batch exclude each other: the jobs stand in {}", arguments.path, path));
    }
    overrides.insert(overrides.begin(), arguments.path);
  }
  if (path == "-") {
    return estimate_batch(stdin, "stdin", overrides, models, whole_run, console);
  }
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    throw InputError(fmt::format("{}: a directory; expected a file with a job in each line", path));
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) {
    throw InputError(fmt::format("{}: {}", path, std::strerror(errno)));
  }
  return estimate_batch(file.get(), path, overrides, models, whole_run, console);
}

}  // namespace

int estimate_command(const std::vector<std::string>& arguments, Console& console) {
  JobArguments job_arguments;
  DeviceArguments device;
  ModelArguments models;
  WholeRunArguments whole_run;
  std::string timeline_path, trace_path, dump_form, batch;
  bool json = false;
  Options options("estimate", "forecasts a training step of a job: its time, its memory, where the time goes");
  job_arguments.add_to(options);
  device.add_to(options);
  options.flag("json", &json, "one document, foretrain.estimate/1");
  options.text("timeline", "FILE", &timeline_path, "writes when each op of two steps would run (JSON)");
  options.text("trace", "FILE", &trace_path, "writes the steady step as a trace for ui.perfetto.dev");
  options.word("dump", &dump_form, {"text", "json", "dot", "schedule"},
               "prints the plan graph, or a picture of its pipeline, instead of the forecast");
  options.text("batch", "FILE", &batch, "a job in each line of FILE (-: stdin), a forecast in each line of the output");
  models.add_to(options);
  whole_run.add_to(options);
  options.examples({"foretrain estimate job.json", "foretrain estimate job.json tp=4 pp=2 recompute=full",
                    "foretrain estimate job.json --json --trace step.trace.json",
                    "foretrain estimate job.json --dump text",
                    "foretrain estimate llama3.1-405b-16384-h100 --tokens 15T --price 2.5",
                    "foretrain estimate --batch jobs.ndjson > forecasts.ndjson"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (json && !dump_form.empty()) {
    throw InputError("--json and --dump exclude each other: stdout takes one document");
  }
  const bool wants_run = whole_run.wanted();
  if (wants_run && !dump_form.empty()) {
    throw InputError("--dump prints the plan of a step, not a forecast; leave --tokens and --steps away");
  }

  if (!batch.empty()) {
    refuse_beside_batch({{device.is_gpu(), "--device"},
                         {!timeline_path.empty(), "--timeline"},
                         {!trace_path.empty(), "--trace"},
                         {!dump_form.empty(), "--dump"}});
    return estimate_batch(batch, job_arguments, models, whole_run, console);
  }
  const plan::Job job = device.load(job_arguments, 1);
  if (!dump_form.empty()) {
    console.result(dump(job, dump_form));
    return kOk;
  }
  const plan::PlanGraph graph = plan::build(job);
  OutputFiles files(timeline_path, trace_path);
  plan::Timeline timeline;
  const sim::Simulation simulation = simulate(job, graph, models, files.wanted() ? &timeline : nullptr);
  files.write_timeline(timeline);
  if (files.wants_trace()) {
    const auto last = static_cast<std::int32_t>(timeline.step_ends.size()) - 1;
    files.write_trace(graph, {reports::traced_step(timeline, "forecast", last)});
  }

  reports::Estimate estimate = forecast(job_arguments, models, job, graph, simulation);
  if (wants_run) {
    estimate.whole_run = whole_run.forecast(job, estimate);
  }
  console.result(json ? reports::to_json(estimate).dump(2) + "\n" : reports::to_text(estimate, console.colour()));
  console.flush();
  if (!estimate.fit.fits()) {
    throw InfeasibleError(reports::infeasible_message(estimate));
  }
  return kOk;
}

}  // namespace foretrain::cli
