// How far off a forecast may be, and how that is known.
#include "search/error_band.h"

#include <fmt/format.h>

#include <limits>

#include "cli/job.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

// A calibrated machine: what the median error of own runs is to stay within.
constexpr double kCalibrated = 0.08;

}  // namespace

reports::ErrorBand error_band(const plan::Job& job, const sim::Simulation& simulation) {
  const double step = seconds(simulation.step_time);
  const topologies::Profile* profile = job.cluster.profile.get();
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (profile == nullptr) {
    return {kUnknown, kUnknown,
            job.cluster.is_gpu
                ? "generic figures, not measured on this GPU; 'foretrain calibrate --device cuda' measures it"
            : job.cluster.this_machine
                ? "generic figures, not measured on this machine; 'foretrain calibrate' measures it"
                : "datasheet figures without a profile; no validation covers them"};
  }
  if (simulation.compute_model == "measured") {
    return {step * (1 - kCalibrated), step * (1 + kCalibrated),
            fmt::format("+-8 %, what the median error right after calibrate is to stay within; profile of {}, {}",
                        profile->measured.machine, profile->measured.date)};
  }
  const search::StepBand band =
      search::step_band(*search::published_residuals(), search::generation_of(job.cluster.device.name),
                        job.workload.model.moe_layers() > 0);
  return {step * band.low, step * band.high, fmt::format("{}; profile {}", band.basis, profile->name)};
}

}  // namespace foretrain::cli
