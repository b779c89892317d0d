#include "reports/compare_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "plan/breakdown.h"
#include "plan/graph.h"
#include "reports/estimate.h"
#include "reports/figures.h"
#include "reports/run.h"
#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;

std::vector<ComparedTime> grouped(const plan::PlanGraph& graph, const plan::Timeline& predicted, std::int32_t first,
                                  std::int32_t period, const plan::MeasuredSteps& measured) {
  std::map<std::string, ComparedTime> rows;
  const auto parts = static_cast<double>(graph.mesh.ranks()) * period;
  for (const auto& [kind, busy] : plan::totals(graph, predicted, first).by_kind) {
    ComparedTime& row = rows[plan::group_of_kind(kind)];
    row.predicted_seconds += seconds(busy.time) / parts;
  }
  for (const auto& [group, kernels] : measured.kernels) {
    rows[group].measured_seconds = kernels.seconds;
    rows[group].ops = kernels.count;
  }
  std::vector<ComparedTime> out;
  for (auto& [name, row] : rows) {
    row.name = name;
    out.push_back(row);
  }
  std::stable_sort(out.begin(), out.end(), [](const ComparedTime& a, const ComparedTime& b) {
    return a.measured_seconds > b.measured_seconds;
  });
  return out;
}

}  // namespace

double StepComparison::error() const {
  return measured_step > 0 ? (predicted_step - measured_step) / measured_step
                           : std::numeric_limits<double>::quiet_NaN();
}

StepComparison compare_steps(const plan::PlanGraph& graph, const plan::Timeline& predicted,
                             plan::MeasuredSteps measured) {
  StepComparison c;
  c.predicted_machine = predicted.machine;
  const std::vector<Time>& ends = predicted.step_ends;
  const auto period = std::min(static_cast<std::size_t>(plan::period(graph)), ends.size());
  const Time before = ends.size() > period ? ends[ends.size() - period - 1] : Time{};
  c.predicted_step = seconds(ends.back() - before) / static_cast<double>(period);
  c.measured_step =
      quantile({measured.seconds.begin() + static_cast<std::ptrdiff_t>(measured.warm_up), measured.seconds.end()}, 0.5);
  if (!measured.kernels.empty()) {
    c.by_group = grouped(graph, predicted, static_cast<std::int32_t>(ends.size() - period),
                         static_cast<std::int32_t>(period), measured);
  }
  c.measured = std::move(measured);
  return c;
}

nlohmann::ordered_json to_json(const StepComparison& c, const plan::Job& job, std::optional<double> max_error) {
  Json rows = Json::array();
  for (const ComparedTime& row : c.by_group) {
    rows.push_back({{"name", row.name},
                    {"ops", number(row.ops)},
                    {"predicted_s", number(row.predicted_seconds)},
                    {"measured_s", number(row.measured_seconds)},
                    {"error", number(row.error())}});
  }
  Json out{{"schema", "foretrain.compare/1"},
           {"predicted_step_s", number(c.predicted_step)},
           {"measured_step_s", number(c.measured_step)},
           {"error", number(c.error())},
           {"steps", c.measured.seconds.size()},
           {"warm_up_steps", c.measured.warm_up},
           {"measured_steps_s", c.measured.seconds},
           {"predicted_by", c.predicted_machine},
           {"measured_on", c.measured.format},
           {"warnings", c.measured.warnings},
           {"by_kind", std::move(rows)}};
  if (max_error) {
    out["max_error"] = *max_error;
    out["passed"] = std::abs(c.error()) <= *max_error;
  }
  out["resolved"] = Json(plan::resolved(job));
  return out;
}

std::string to_text(const StepComparison& c, const plan::Job& job, std::optional<double> max_error, bool colour) {
  const bool breached = max_error && !(std::abs(c.error()) <= *max_error);
  std::string out = toned(headline(job), Tone::strong, colour) + "\n\n";
  out += fmt::format(
      "step time: forecast {}, measured {} (median of {}{}): {}{}\n",
      toned(seconds_text(c.predicted_step), Tone::strong, colour),
      toned(seconds_text(c.measured_step), Tone::strong, colour), c.measured.seconds.size() - c.measured.warm_up,
      c.measured.warm_up > 0 ? fmt::format("; the first {} left out", c.measured.warm_up) : "",
      toned(signed_percent(c.error()), breached ? Tone::bad : Tone::strong, colour),
      max_error ? fmt::format(", {} the {} allowed", breached ? "more than" : "within", percent(*max_error)) : "");
  out += fmt::format("{}; {}\nerror = (forecast - measured) / measured\n", c.predicted_machine, c.measured.format);
  if (c.by_group.empty()) {
    return out;
  }
  Table t;
  t.title = "By group of kernels: forecast mean over ranks, measured on the trace's rank";
  t.columns = {{""},
               {"kernels", Align::right},
               {"forecast", Align::right},
               {"measured", Align::right},
               {"error", Align::right},
               {"of the step", Align::right}};
  for (const ComparedTime& row : c.by_group) {
    t.rows.push_back({row.name, fmt::format("{:.4g}", row.ops), seconds_text(row.predicted_seconds),
                      seconds_text(row.measured_seconds), signed_percent(row.error()),
                      signed_percent((row.predicted_seconds - row.measured_seconds) / c.measured_step)});
  }
  return out + "\n" + to_text(t, colour);
}

}  // namespace foretrain::reports
