// How far off a forecast may be, and how that is known.
#include <fmt/format.h>

#include <limits>

#include "cli/job.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

// Catalogue profiles: the bound that the nine published runs of Korthikanti et al. 2022, table 5 (22B to 1T on A100)
// are held to by the tests (mean error).
constexpr double kPublishedRuns = 0.15;
constexpr const char* kPublishedRunsBasis =
    "+-15 %: the bound on the mean error over a sanity set of 9 published runs (Korthikanti et al. 2022, table 5)";
// A calibrated machine: the bound that the median over the two small models is held to for dp2, tp2, pp2 and one rank.
constexpr double kCalibrated = 0.08;

}  // namespace

reports::ErrorBand error_band(const plan::Job& job, const sim::Simulation& simulation) {
  const double step = seconds(simulation.step_time);
  const topologies::Profile* profile = job.cluster.profile.get();
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (profile == nullptr) {
    return {kUnknown, kUnknown,
            job.cluster.this_machine
                ? "generic figures, not measured on this machine; 'foretrain calibrate' measures it"
                : "datasheet figures without a profile; no validation covers them"};
  }
  if (simulation.compute_model == "measured") {
    return {
        step * (1 - kCalibrated), step * (1 + kCalibrated),
        fmt::format("+-8 %: the bound on the median step error of own runs right after calibrate; profile of {}, {}",
                    profile->measured.machine, profile->measured.date)};
  }
  return {step * (1 - kPublishedRuns), step * (1 + kPublishedRuns),
          fmt::format("{}; profile {}", kPublishedRunsBasis, profile->name)};
}

}  // namespace foretrain::cli
