#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "reports/compare.h"
#include "reports/estimate.h"
#include "reports/figures.h"
#include "reports/staleness.h"
#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kOpsShown = 12;    // in text
constexpr std::size_t kOpsListed = 100;  // in the document
constexpr double kSmallest = 0.001;      // share of the step that earns a row in text
constexpr double kFarOff = 0.25;         // an error shown in red

Json rows_json(const std::vector<ComparedTime>& rows, std::size_t limit = std::string::npos) {
  Json out = Json::array();
  for (std::size_t i = 0; i < std::min(limit, rows.size()); ++i) {
    const ComparedTime& row = rows[i];
    out.push_back({{"name", row.name},
                   {"ops", number(row.ops)},
                   {"predicted_s", number(row.predicted_seconds)},
                   {"measured_s", number(row.measured_seconds)},
                   {"error", number(row.error())}});
  }
  return out;
}

Cell error_cell(double error) {
  return {signed_percent(error), std::abs(error) > kFarOff ? Tone::bad : Tone::plain};
}

Table times_table(const std::string& title, const std::vector<ComparedTime>& rows, double step, std::size_t limit) {
  Table t;
  t.title = title;
  t.columns = {{""},
               {"ops", Align::right},
               {"forecast", Align::right},
               {"measured", Align::right},
               {"error", Align::right},
               {"of the step", Align::right}};
  std::size_t small = 0;
  for (std::size_t i = 0; i < std::min(limit, rows.size()); ++i) {
    const ComparedTime& row = rows[i];
    if (std::max(row.predicted_seconds, row.measured_seconds) < kSmallest * step) {
      ++small;
      continue;
    }
    t.rows.push_back({row.name, fmt::format("{:.4g}", row.ops), seconds_text(row.predicted_seconds),
                      seconds_text(row.measured_seconds), error_cell(row.error()),
                      signed_percent((row.predicted_seconds - row.measured_seconds) / step)});
  }
  if (small > 0) {
    t.rows.push_back({{fmt::format("and {} below {} of the step", small, percent(kSmallest)), Tone::dim}});
  }
  return t;
}

Table breakdown_table(const Comparison& c) {
  Table t;
  t.title = "Where the step goes, mean over ranks";
  t.columns = {{""}, {"forecast", Align::right}, {"measured", Align::right}, {"of the step", Align::right}};
  const auto row = [&](const std::string& name, Time predicted, Time measured) {
    t.rows.push_back({name, to_string(predicted), to_string(measured),
                      signed_percent(seconds(predicted - measured) / c.measured_step)});
  };
  const auto predicted = breakdown_parts(c.predicted_breakdown);
  const auto measured = breakdown_parts(c.measured_breakdown);
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    if (predicted[i].second.value != 0 || measured[i].second.value != 0) {
      row(predicted[i].first, predicted[i].second, measured[i].second);
    }
  }
  row("all exposed communication", exposed_communication(c.predicted_breakdown),
      exposed_communication(c.measured_breakdown));
  return t;
}

Json pair_json(double predicted, double measured) {
  return {{"predicted_s", number(predicted)}, {"measured_s", number(measured)}};
}

}  // namespace

nlohmann::ordered_json to_json(const Comparison& c, const plan::Job& job, std::optional<double> max_error) {
  Json out{
      {"schema", "foretrain.compare/1"},
      {"predicted_step_s", number(c.predicted_step)},
      {"measured_step_s", number(c.measured_step)},
      {"error", number(c.error())},
      {"steps", c.step_seconds.size()},
      {"counted_steps", c.counted},
      {"measured_steps_s", c.step_seconds},
      {"predicted_by", c.predicted_machine},
      {"measured_on", c.measured_machine},
      {"by_kind", rows_json(c.by_kind)},
      {"by_phase", rows_json(c.by_phase)},
      {"by_stream", rows_json(c.by_stream)},
      {"by_op", rows_json(c.by_op, kOpsListed)},
      {"breakdown",
       {{"predicted_s", breakdown_json(c.predicted_breakdown)}, {"measured_s", breakdown_json(c.measured_breakdown)}}},
      {"exposed_communication", pair_json(seconds(exposed_communication(c.predicted_breakdown)),
                                          seconds(exposed_communication(c.measured_breakdown)))},
      {"bubble", pair_json(seconds(c.predicted_breakdown.bubble), seconds(c.measured_breakdown.bubble))}};
  for (const auto& [key, staleness] :
       {std::pair{"predicted_staleness", &c.predicted_staleness}, {"measured_staleness", &c.measured_staleness}}) {
    if (!staleness->empty()) {
      out[key] = staleness_json(*staleness);
    }
  }
  if (max_error) {
    out["max_error"] = *max_error;
    out["passed"] = std::abs(c.error()) <= *max_error;
  }
  out["resolved"] = Json(plan::resolved(job));
  return out;
}

std::string to_text(const Comparison& c, const plan::Job& job, std::optional<double> max_error, bool colour) {
  constexpr std::size_t kAll = std::string::npos;
  std::string out = toned(headline(job), Tone::strong, colour) + "\n\n";
  const bool breached = max_error && !(std::abs(c.error()) <= *max_error);
  out += fmt::format(
      "step time: forecast {}, measured {} (median of {}): {}{}{}\n",
      toned(seconds_text(c.predicted_step), Tone::strong, colour),
      toned(seconds_text(c.measured_step), Tone::strong, colour), c.counted.size(),
      toned(signed_percent(c.error()), breached ? Tone::bad : Tone::strong, colour),
      max_error ? fmt::format(", {} the {} allowed", breached ? "more than" : "within", percent(*max_error)) : "",
      c.counted.size() < c.step_seconds.size()
          ? fmt::format("; not counted: {} more, in which the hypervisor kept cores waiting",
                        c.step_seconds.size() - c.counted.size())
          : "");
  out += fmt::format("{}; {}\n", c.predicted_machine, c.measured_machine);
  if (!c.predicted_staleness.empty() && !c.measured_staleness.empty()) {
    out += fmt::format("staleness of updates: forecast {}; measured {}\n", staleness_text(c.predicted_staleness),
                       staleness_text(c.measured_staleness));
  }
  out += "error = (forecast - measured) / measured; 'of the step' is the same difference over the measured step\n\n";
  out += to_text(breakdown_table(c), colour) + "\n";
  out += to_text(times_table("By op kind, mean over ranks", c.by_kind, c.measured_step, kAll), colour) + "\n";
  out += to_text(times_table("By phase", c.by_phase, c.measured_step, kAll), colour) + "\n";
  out += to_text(times_table("By stream", c.by_stream, c.measured_step, kAll), colour) + "\n";
  out += to_text(times_table("Ops that contribute most to the difference, by their median durations", c.by_op,
                             c.measured_step, kOpsShown),
                 colour);
  return out;
}

}  // namespace foretrain::reports
