// Forecasts of published training runs: time of a step, memory of the fullest device, whether it fits.
#pragma once

#include <string>
#include <vector>

#include "plan/device_memory.h"
#include "plan/graph.h"
#include "reports/validation.h"
#include "search/training_job.h"
#include "sim/simulator.h"

namespace foretrain::search {

struct TrainingForecast {
  plan::PlanGraph graph;
  sim::Simulation simulation;
  double more_tp_seconds = 0;  // communication that the graph has not
  double step_seconds = 0;     // with what the notes of the reading add to the simulation
  double memory_bytes = 0;     // the total that the row measured, of the fullest device
  plan::MemoryFit fit;
};
// Requires: reading.job. Throws InputError for a job that cannot be built.
TrainingForecast forecast(const Reading& reading);

// Rows as `validate` shows them, in the order given. Runs on all cores; the result does not depend on how many.
std::vector<reports::ValidationRow> forecast_all(const std::vector<TrainingRow>& rows, const TrainingRules& rules);

// How the row was read and where its time goes, for people.
std::string explain(const TrainingRow& row, const TrainingRules& rules, bool colour);

}  // namespace foretrain::search
