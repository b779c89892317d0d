#include "cli/job.h"

#include <fmt/format.h>

#include "base/catalogue.h"
#include "base/error.h"
#include "cli/recorder.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

constexpr int kSimulatedSteps = 2;

}  // namespace

void JobArguments::add_to(Options& options) {
  options.positional("JOB", &path, "job file (JSON), or a name of 'foretrain list jobs'");
  options.rest("KEY=VALUE", &overrides, "overrides a field of the job: strategy.tp=4, or tp=4 where that is clear");
}

plan::Job JobArguments::load(const std::vector<std::string>& further) const {
  std::vector<std::string> all = overrides;
  all.insert(all.end(), further.begin(), further.end());
  if (text) {
    plan::Job job = plan::job_from_text(*text, path, all);
    topologies::load_profile_of(job.cluster);
    return job;
  }
  if (path.empty()) {
    throw InputError("a JOB is missing: a file, or a name of 'foretrain list jobs'");
  }
  const bool is_name = is_catalogue_name(path);
  if (is_name && path.find('=') != std::string::npos) {
    throw InputError(fmt::format("\"{}\" stands where the JOB belongs; overrides come behind it", path));
  }
  plan::Job job = plan::load_job(is_name ? catalogue_path(kJobFolder, "job", path) : path, all);
  topologies::load_profile_of(job.cluster);
  return job;
}

void ModelArguments::add_to(Options& options) {
  options.word("compute-model", &compute_model, {"auto", "roofline", "measured"},
               "how long ops take; auto: measured where the profile has tables");
  options.word("network", &network_model, {"auto", "alpha_beta", "fair_share", "measured"},
               "how long communication takes; auto: measured where the profile has tables, else fair_share");
  options.flag("no-fold", &no_fold, "simulates every rank and every op by itself: the same result, slowly");
  options.flag("no-sharing", &no_sharing, "compute and communication on one device do not slow each other");
  options.text("collective", "KIND=ALGORITHM", &collectives,
               "not the library's choice of algorithm: all_reduce=ring,all_gather=ring:simple");
}

sim::Options options_of(const ModelArguments& models) {
  sim::Options options;
  options.compute_model = models.compute_model;
  options.network_model = models.network_model;
  options.collectives = sim::parse_collective_overrides(models.collectives);
  options.steps = kSimulatedSteps;
  options.share_devices = !models.no_sharing;
  options.fold_ranks = options.fold_time = !models.no_fold;
  return options;
}

sim::Simulation simulate(const plan::Job& job, const plan::PlanGraph& graph, const ModelArguments& models,
                         plan::Timeline* timeline) {
  if (timeline == nullptr) {
    return sim::simulate(graph, job.cluster, options_of(models));
  }
  Recorder recorder(graph);
  sim::Simulation simulation = simulate_into(recorder, job, graph, models);
  *timeline = recorder.timeline(fmt::format("simulated: {}, {}", simulation.compute_model, simulation.network_model),
                                simulation.step_ends);
  return simulation;
}

sim::Simulation simulate_into(plan::SpanSink& sink, const plan::Job& job, const plan::PlanGraph& graph,
                              const ModelArguments& models) {
  return sim::simulate(graph, job.cluster, options_of(models), &sink);
}

}  // namespace foretrain::cli
