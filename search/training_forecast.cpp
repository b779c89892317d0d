#include "search/training_forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "plan/build.h"
#include "reports/estimate.h"
#include "reports/figures.h"
#include "reports/table.h"
#include "reports/text.h"
#include "search/framework_traffic.h"

namespace foretrain::search {

namespace {

// Less is no measurement, and no figure to divide by.
constexpr double kShortestStep = 1e-9, kLeastMemory = 1.0 / (1024 * 1024);

bool has_time(const TrainingRow& row) {
  return row.step_time_s && *row.step_time_s > kShortestStep;
}

// What the allocator would like to reserve shows only where there is room for it.
Bytes measured_total(MeasuredMemory which, const plan::DeviceMemory& memory) {
  return which == MeasuredMemory::allocated  ? memory.held.allocated
         : which == MeasuredMemory::reserved ? memory.held.needed
                                             : memory.needed();
}

reports::ValidationRow blank(const TrainingRow& row) {
  reports::ValidationRow r;
  r.kind = row.out_of_memory ? reports::RowKind::verdict : reports::RowKind::step_time;
  r.id = row.id;
  r.group = row.group;
  r.what = row.model.name;
  r.system = row.cluster.family;
  r.unit = row.out_of_memory ? "verdict" : "s";
  r.measured = row.step_time_s;
  r.experts = row.model.moe;
  r.ranks = row.cluster.gpus.value_or(0);
  r.exact = row.exact && !row.flagged;
  if (row.memory_gib && *row.memory_gib > kLeastMemory) {
    r.measured_memory = *row.memory_gib * kGiB;
  }
  if (row.out_of_memory) {
    r.measured = 1;
  }
  return r;
}

std::vector<std::pair<std::string, double>> where_time_goes(const TrainingForecast& f) {
  std::vector<std::pair<std::string, double>> result;
  const double waits = f.step_seconds - f.more_tp_seconds - seconds(f.simulation.step_time);
  for (const auto& [bucket, time] :
       reports::breakdown_parts(reports::mean_over_ranks(f.graph, f.simulation.breakdown))) {
    result.emplace_back(bucket, seconds(time) + (bucket == "exposed_dp"   ? waits
                                                 : bucket == "exposed_tp" ? f.more_tp_seconds
                                                                          : 0));
  }
  return result;
}

reports::ValidationRow validated(const TrainingRow& row, const TrainingRules& rules) {
  reports::ValidationRow r = blank(row);
  r.fitted = rules.is_fitted(row.group);
  if (!row.out_of_memory && !has_time(row) && !r.measured_memory) {
    r.skipped = "no measurement";
    return r;
  }
  Reading reading = read_job(row, rules);
  r.notes = reading.notes;
  if (r.measured_memory) {
    r.measured_memory = *row.memory_gib * reading.memory_unit;
  }
  r.skipped = reading.skipped;
  if (!reading.job) {
    return r;
  }
  const plan::Job& job = *reading.job;
  r.tokens = static_cast<double>(job.workload.global_batch * job.workload.seq_len);
  r.workload = fmt::format("{}, seq {}, batch {}, {} devices", row.model.name, job.workload.seq_len,
                           job.workload.global_batch, r.ranks);
  try {
    const TrainingForecast f = forecast(reading);
    r.fits = f.fit.fits();
    r.predicted_memory = f.memory_bytes;
    r.predicted = row.out_of_memory ? (f.fit.fits() ? 0 : 1) : f.step_seconds;
    r.breakdown = where_time_goes(f);
  } catch (const InputError& e) {
    r.skipped = fmt::format("no such job: {}", e.what());
  }
  if (!r.skipped && !row.out_of_memory && !has_time(row)) {
    r.skipped = "no step time; its memory is compared";
  }
  return r;
}

}  // namespace

TrainingForecast forecast(const Reading& reading) {
  CHECK(reading.job.has_value(), "a forecast without a job");
  const plan::Job& job = *reading.job;
  TrainingForecast f;
  f.graph = plan::build(job);
  // Flows on the fabric's routes move no group's error by more than 0.7 points, and all rows take minutes with them.
  sim::Options closed_forms;
  closed_forms.network_model = "alpha_beta";
  f.simulation = sim::simulate(f.graph, job.cluster, closed_forms);
  f.step_seconds = seconds(f.simulation.step_time);
  f.fit = plan::memory_fit(job, f.graph, reading.held);
  for (const plan::DeviceMemory& memory : f.fit.roles) {
    f.memory_bytes = std::max(f.memory_bytes, static_cast<double>(measured_total(reading.memory, memory).value));
  }
  f.more_tp_seconds = more_tp_seconds(reading);
  f.step_seconds += f.more_tp_seconds + more_dp_seconds(reading) + more_sharding_seconds(reading) +
                    more_gradient_seconds(reading, f.graph);
  return f;
}

std::vector<reports::ValidationRow> forecast_all(const std::vector<TrainingRow>& rows, const TrainingRules& rules) {
  std::vector<reports::ValidationRow> result(rows.size());
  in_parallel(rows.size(), [&](std::size_t i) { result[i] = validated(rows[i], rules); });
  return result;
}

std::string explain(const TrainingRow& row, const TrainingRules& rules, bool colour) {
  const Reading reading = read_job(row, rules);
  reports::Table fields;
  fields.title = fmt::format("{} of {}: how the row was read", row.id, row.group);
  fields.columns = {{"field"}, {"value"}, {"from"}, {"source"}};
  for (const ReadField& f : reading.fields) {
    fields.rows.push_back({f.path, f.value, {std::string(name(f.origin)), reports::Tone::dim}, f.source});
  }
  std::string out = reports::to_text(fields, colour) + "\n";
  for (const std::string& note : reading.notes) {
    out += "note: " + note + "\n";
  }
  if (!reading.job) {
    return out + "not forecast: " + *reading.skipped + "\n";
  }
  const TrainingForecast f = forecast(reading);
  reports::Estimate estimate;
  estimate.job = &*reading.job;
  estimate.graph = &f.graph;
  estimate.fit = f.fit;
  estimate.step_time = f.simulation.step_time;
  estimate.by_role = f.simulation.breakdown;
  estimate.compute_model = f.simulation.compute_model;
  estimate.network_model = f.simulation.network_model;
  for (const sim::RankClass& c : f.simulation.classes) {
    estimate.classes.push_back({c.role, c.first, c.multiplicity});
  }
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  estimate.error_band = {kUnknown, kUnknown, "that of the measurement below"};
  out += "\n" + reports::to_text(estimate, colour) + "\n";
  const reports::ValidationRow r = validated(row, rules);
  reports::Table compared;
  compared.columns = {{""},
                      {"predicted", reports::Align::right},
                      {"measured", reports::Align::right},
                      {"error", reports::Align::right}};
  if (row.out_of_memory) {
    compared.rows.push_back({"memory", std::string(plan::name(f.fit.verdict)), "OOM", ""});
  } else if (!r.skipped) {
    compared.rows.push_back({"step time", reports::seconds_text(*r.predicted), reports::seconds_text(*r.measured),
                             reports::signed_percent(r.error())});
  }
  if (r.measured_memory) {
    compared.rows.push_back({"memory", fmt::format("{:.1f} GiB", f.memory_bytes / kGiB),
                             fmt::format("{:.1f} GiB", *r.measured_memory / kGiB),
                             reports::signed_percent(f.memory_bytes / *r.measured_memory - 1)});
  }
  out += reports::to_text(compared, colour);
  if (!row.derived_by.empty()) {
    out += "measured step time: " + row.derived_by + "\n";
  }
  return out;
}

}  // namespace foretrain::search
