#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
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

}  // namespace

int estimate_command(const std::vector<std::string>& arguments, Console& console) {
  JobArguments job_arguments;
  DeviceArguments device;
  ModelArguments models;
  WholeRunArguments whole_run;
  std::string timeline_path, trace_path, dump_form;
  bool json = false;
  Options options("estimate", "forecasts a training step of a job: its time, its memory, where the time goes");
  job_arguments.add_to(options);
  device.add_to(options);
  options.flag("json", &json, "one document, foretrain.estimate/1");
  options.text("timeline", "FILE", &timeline_path, "writes when each op of two steps would run (JSON)");
  options.text("trace", "FILE", &trace_path, "writes the steady step as a trace for ui.perfetto.dev");
  options.word("dump", &dump_form, {"text", "json", "dot", "schedule"},
               "prints the plan graph, or a picture of its pipeline, instead of the forecast");
  models.add_to(options);
  whole_run.add_to(options);
  options.examples({"foretrain estimate job.json", "foretrain estimate job.json tp=4 pp=2 recompute=full",
                    "foretrain estimate job.json --json --trace step.trace.json",
                    "foretrain estimate job.json --dump text",
                    "foretrain estimate llama3.1-405b-16384-h100 --tokens 15T --price 2.5"});
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
