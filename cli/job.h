// What the verbs that take a job share: its words on the command line, its plan, its forecast.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "plan/graph.h"
#include "plan/job.h"
#include "plan/timeline.h"
#include "reports/estimate.h"
#include "sim/simulator.h"

namespace foretrain::cli {

inline constexpr const char* kJobFolder = "workloads/jobs";  // of the catalogue

// JOB [KEY=VALUE ...] of the command line. JOB is a file, or a name of the catalogue.
struct JobArguments {
  std::string path;
  std::vector<std::string> overrides;
  std::optional<std::string> text;  // the document itself; `path` then only stands in messages
  bool wants_fixes = true;          // of a job that does not fit

  void add_to(Options& options);
  // The job, its cluster's profile loaded, with further overrides. Throws InputError, also when none was given.
  plan::Job load(const std::vector<std::string>& further = {}) const;
};

struct ModelArguments {
  std::string compute_model = "auto", network_model = "auto";
  bool no_fold = false;
  bool no_sharing = false;
  std::string collectives;  // KIND=ALGORITHM[:PROTOCOL], with commas between

  void add_to(Options& options);
};

// What the simulator is told of these words.
sim::Options options_of(const ModelArguments& models);

// Two simulated steps; the second is the steady one. `timeline`: its spans as well, or nullptr.
sim::Simulation simulate(const plan::Job& job, const plan::PlanGraph& graph, const ModelArguments& models,
                         plan::Timeline* timeline);
// The same, its spans as they come.
sim::Simulation simulate_into(plan::SpanSink& sink, const plan::Job& job, const plan::PlanGraph& graph,
                              const ModelArguments& models);

// Where the forecast's error band comes from, and how wide it is (cli/error_band.cpp has the figures).
reports::ErrorBand error_band(const plan::Job& job, const sim::Simulation& simulation);

// Changes of the job that make it fit: at most three, those of the shortest steps among the sets of changes of which no
// part does; each was built, its memory planned and its step forecast by closed forms.
std::vector<reports::Fix> fixes(const JobArguments& arguments, const plan::Job& job);

}  // namespace foretrain::cli
