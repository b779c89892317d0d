// How far off a forecast may be, and how that is known.
#include <fmt/format.h>

#include <limits>

#include "cli/job.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

// The one catalogue profile that whole published steps were held against: largest and mean error of the nine runs of
// Korthikanti et al. 2022, table 5 (22B to 1T), nothing fitted to them (docs/models.md, "Whole steps").
constexpr const char* kValidatedDevice = "A100";
constexpr double kLargestPublished = 0.086;
constexpr const char* kPublishedBasis = "+-8.6 %, the largest error over 9 published steps on A100 (mean 4.7 %)";
// The others: what the tests allow as mean error of those runs, for want of published steps on these systems.
constexpr double kUnvalidated = 0.15;
constexpr const char* kUnvalidatedBasis =
    "+-15 %, the mean error that the tests allow on 9 published steps on A100; none on this system was held against it";
// A calibrated machine: what the median error of own runs is to stay within.
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
    return {step * (1 - kCalibrated), step * (1 + kCalibrated),
            fmt::format("+-8 %, what the median error right after calibrate is to stay within; profile of {}, {}",
                        profile->measured.machine, profile->measured.date)};
  }
  const bool validated = job.cluster.device.name.find(kValidatedDevice) != std::string::npos;
  const double width = validated ? kLargestPublished : kUnvalidated;
  return {step * (1 - width), step * (1 + width),
          fmt::format("{}; profile {}", validated ? kPublishedBasis : kUnvalidatedBasis, profile->name)};
}

}  // namespace foretrain::cli
