#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "cli/forecast.h"
#include "cli/interrupt.h"
#include "cli/job.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "plan/build.h"
#include "reports/definitions.h"
#include "reports/explain.h"
#include "search/critical_path.h"
#include "search/plan_changes.h"
#include "search/sensitivity.h"
#include "search/sweep.h"
#include "search/watch.h"

namespace foretrain::cli {

namespace {

// A word that is neither a job nor defined.
[[noreturn]] void refuse(const std::string& word) {
  std::vector<std::string> known = catalogue_names(kJobFolder);
  known.emplace_back("collective");
  std::string near = nearest_word(word, known);
  if (near.empty()) {
    near = reports::nearest_defined(word);
  }
  throw InputError(fmt::format(
      "\"{}\" is neither a job nor a figure, field or topic; {}expected a JOB, a word of 'foretrain explain "
      "figures' or 'foretrain explain fields', exit-codes, or collective",
      word, near.empty() ? "" : fmt::format("did you mean \"{}\"? ", near)));
}

// What the word means, where it is no job; "" where it is one.
std::string definition(const std::string& word) {
  const auto all = [](std::span<const reports::Definition> table) {
    return reports::to_text({table.begin(), table.end()});
  };
  if (word == "figures") {
    return all(reports::figure_definitions());
  }
  if (word == "fields") {
    return all(reports::field_definitions());
  }
  const std::vector<std::string> jobs = catalogue_names(kJobFolder);
  if (word.empty() || word.find('/') != std::string::npos || word.ends_with(".json") ||
      std::find(jobs.begin(), jobs.end(), word) != jobs.end()) {
    return "";
  }
  const std::vector<reports::Definition> found = reports::definitions_of(word);
  if (found.empty()) {
    refuse(word);
  }
  return reports::to_text(found);
}

reports::Sweep swept(const JobArguments& arguments, const ModelArguments& models,
                     const std::vector<std::string>& sweeps, const InterruptWatch& interrupt, Console& console) {
  std::vector<reports::SweepAxis> axes;
  for (const std::string& text : sweeps) {
    axes.push_back(search::sweep_axis(text));
  }
  const search::LoadJob load = [&](const std::vector<std::string>& further) { return arguments.load(further); };
  Progress progress(console, "sweeping");
  const search::Watch watch{[&](std::size_t done, std::size_t count) {
                              progress.update(static_cast<double>(done) / static_cast<double>(count),
                                              fmt::format("{} of {} simulated", done, count));
                            },
                            interrupt.flag()};
  return search::sweep(arguments.load(), load, options_of(models), std::move(axes), watch);
}

// What more of each resource would buy, and what to change; as far as it is found before an interruption.
void add_simulated(reports::Explanation& e, const JobArguments& arguments, const plan::Job& job,
                   const plan::PlanGraph& graph, const sim::Options& options, const InterruptWatch& interrupt,
                   Console& console) {
  Progress progress(console, "explaining");
  const std::size_t all = std::size(search::kResources) + search::plan_changes(job).size();
  std::size_t before = 0;
  const search::Watch watch{[&](std::size_t done, std::size_t) {
                              progress.update(static_cast<double>(before + done) / static_cast<double>(all),
                                              fmt::format("{} of {} simulated", before + done, all));
                            },
                            interrupt.flag()};
  const Time step = e.estimate->step_time;
  e.resources = search::sensitivity(job, graph, options, step, watch);
  before = std::size(search::kResources);
  e.changes = search::changed_plans(
      job, [&](const std::vector<std::string>& further) { return arguments.load(further); }, options, step, watch);
  e.interrupted = watch.is_over();
}

}  // namespace

int explain_command(const std::vector<std::string>& arguments, Console& console) {
  if (!arguments.empty() && arguments.front() == "collective") {
    return explain_collective({arguments.begin() + 1, arguments.end()}, console);
  }
  JobArguments job_arguments;
  ModelArguments models;
  std::vector<std::string> sweeps;
  bool json = false;
  Options options("explain",
                  "why a step of a job takes as long as it does, and what would make it shorter; tables of changes; "
                  "what a figure, a field or an exit status means; ways to do a collective");
  options.positional("WHAT", &job_arguments.path,
                     "a JOB; or a word: mfu, exposed_tp, strategy.zero, exit-codes; figures, fields: all of them; or "
                     "'collective', with options of its own");
  options.rest("KEY=VALUE", &job_arguments.overrides, "overrides a field of the job");
  options.texts("sweep", "FIELD=A,B,C", &sweeps,
                "a table of the job with each of these values; several fields: with all combinations");
  options.flag("json", &json, "one document, foretrain.explain/1, or foretrain.sweep/1");
  models.add_to(options);
  options.examples({"foretrain explain gpt3-175b-1024-a100",
                    "foretrain explain job.json --sweep tp=1,2,4,8 --sweep micro_batch=1,2", "foretrain explain mfu",
                    "foretrain explain exit-codes",
                    "foretrain explain collective --kind all_reduce --bytes 64MiB --group 16 --system dgx-h100"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (job_arguments.path.empty()) {
    throw InputError("WHAT is missing; expected a JOB, a word of 'foretrain explain figures', or collective");
  }
  if (const std::string text = definition(job_arguments.path); !text.empty()) {
    if (json || !sweeps.empty() || !job_arguments.overrides.empty()) {
      throw InputError(
          fmt::format("\"{}\" is explained in words; KEY=VALUE, --json and --sweep go with a JOB", job_arguments.path));
    }
    console.result(text);
    return kOk;
  }
  if (!sweeps.empty()) {
    const InterruptWatch interrupt;
    const reports::Sweep result = swept(job_arguments, models, sweeps, interrupt, console);
    console.result(json ? reports::to_json(result).dump(2) + "\n" : reports::to_text(result, console.colour()));
    console.flush();
    interrupt.throw_if_interrupted();
    return kOk;
  }
  job_arguments.wants_fixes = false;
  const plan::Job job = job_arguments.load();
  const plan::PlanGraph graph = plan::build(job);
  plan::Timeline timeline;
  const sim::Simulation simulation = simulate(job, graph, models, &timeline);
  const reports::Estimate estimate = forecast(job_arguments, models, job, graph, simulation);
  reports::Explanation explanation;
  explanation.estimate = &estimate;
  explanation.path = search::critical_path(graph, job.cluster, timeline);
  timeline = {};                   // spans of every op: no need to hold them beside the simulations that follow
  const InterruptWatch interrupt;  // from here on there is something to tell
  add_simulated(explanation, job_arguments, job, graph, options_of(models), interrupt, console);
  console.result(json ? reports::to_json(explanation).dump(2) + "\n" : reports::to_text(explanation, console.colour()));
  console.flush();
  interrupt.throw_if_interrupted();
  return kOk;
}

}  // namespace foretrain::cli
