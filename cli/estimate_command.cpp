#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/device.h"
#include "cli/files.h"
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

// What its ranks read, and what the first epoch's step takes, whose caches are empty.
std::optional<reports::Reading> reading(const plan::Job& job, const plan::PlanGraph& graph,
                                        const ModelArguments& models) {
  if (job.cluster.storage.bandwidth.value == 0 && graph.data.kept == 0) {
    return std::nullopt;
  }
  reports::Reading r;
  r.per_step = plan::step_reads(graph);
  if (graph.data.kept > 0) {
    r.epoch = plan::epoch_reads(graph, job.cluster);
    plan::PlanGraph empty = graph;
    empty.data.kept = 0;
    r.first_step_time = simulate(job, empty, models, nullptr).step_time;
  }
  return r;
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

  reports::Estimate estimate;
  estimate.job = &job;
  estimate.graph = &graph;
  estimate.step_time = simulation.step_time;
  estimate.staleness = simulation.staleness;
  estimate.by_role = simulation.breakdown;
  estimate.reading = reading(job, graph, models);
  estimate.compute_model = simulation.compute_model;
  estimate.network_model = simulation.network_model;
  estimate.error_band = error_band(job, simulation);
  if (wants_run) {
    estimate.whole_run = whole_run.forecast(job, estimate);
  }
  for (const sim::RankClass& c : simulation.classes) {
    estimate.classes.push_back({c.role, c.first, c.multiplicity});
  }
  if (simulation.links_seen != sim::LinksSeen::as_they_are) {
    estimate.notes.push_back(fmt::format(
        "The routes between nodes leave too few ranks alike: {}. --network fair_share takes them as they are, slowly.",
        simulation.links_seen == sim::LinksSeen::sprayed ? "hashed ones are taken as sprayed"
                                                         : "what they hold back is left out"));
  }
  if (!job.cluster.disturbance.empty()) {
    estimate.notes.push_back("The cluster is disturbed; the error band is that of an undisturbed one.");
  }
  estimate.fit = plan::memory_fit(job, graph);
  if (!estimate.fit.fits()) {
    estimate.fixes = fixes(job_arguments, job);
  }
  console.result(json ? reports::to_json(estimate).dump(2) + "\n" : reports::to_text(estimate, console.colour()));
  console.flush();
  if (!estimate.fit.fits()) {
    throw InfeasibleError(reports::infeasible_message(estimate));
  }
  return kOk;
}

}  // namespace foretrain::cli
