// Forecast against steps that other tools measured (plan/foreign/measured_steps.h): their time, and where a trace of
// kernels says it, the time of each group of kernels.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "plan/foreign/measured_steps.h"
#include "reports/compare.h"

namespace foretrain::reports {

struct StepComparison {
  double predicted_step = 0, measured_step = 0;  // seconds; the measured one is the median of those that count
  double error() const;
  plan::MeasuredSteps measured;
  std::string predicted_machine;
  std::vector<ComparedTime> by_group;  // predicted: mean over ranks; measured: the trace's rank; empty of a log
};

// Of the forecast the last period counts, as in compare().
StepComparison compare_steps(const plan::PlanGraph& graph, const plan::Timeline& predicted,
                             plan::MeasuredSteps measured);

nlohmann::ordered_json to_json(const StepComparison& c, const plan::Job& job, std::optional<double> max_error);
std::string to_text(const StepComparison& c, const plan::Job& job, std::optional<double> max_error, bool colour);

}  // namespace foretrain::reports
