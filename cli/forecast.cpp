#include "cli/forecast.h"

#include <fmt/format.h>

namespace foretrain::cli {

namespace {

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

reports::Estimate forecast(const JobArguments& arguments, const ModelArguments& models, const plan::Job& job,
                           const plan::PlanGraph& graph, const sim::Simulation& simulation) {
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
    estimate.fixes = fixes(arguments, job);
  }
  return estimate;
}

}  // namespace foretrain::cli
