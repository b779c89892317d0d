#include "reports/validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "reports/table.h"
#include "reports/text.h"
#include "reports/validation_figures.h"
#include "reports/validation_runs.h"
#include "reports/validation_training.h"

namespace foretrain::reports {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(const std::optional<double>& value) {
  return value ? number(*value) : Json(nullptr);
}

Json to_json(const ValidationSummary& s) {
  return {{"rows", s.rows},
          {"used", s.used},
          {"skipped", s.skipped},
          {"median_abs_error", or_null(s.median_abs_error)},
          {"p90_abs_error", or_null(s.p90_abs_error)},
          {"bias", or_null(s.bias)}};
}

ValidationRows pointers(const std::vector<ValidationRow>& rows) {
  ValidationRows result;
  for (const ValidationRow& r : rows) {
    result.push_back(&r);
  }
  return result;
}

using Part = ValidationPart;

struct Kinds {
  ValidationRows collectives, trainings, runs;
};
Kinds split(const Validation& validation) {
  Kinds kinds;
  for (const ValidationRow& r : validation.rows) {
    (r.kind == RowKind::collective  ? kinds.collectives
     : r.kind == RowKind::whole_run ? kinds.runs
                                    : kinds.trainings)
        .push_back(&r);
  }
  return kinds;
}

std::vector<Part> parts(const ValidationRows& rows, bool by_collective) {
  std::vector<Part> result;
  std::map<std::string, std::size_t> index;
  for (const ValidationRow* r : rows) {
    const std::string title = by_collective && !r->what.empty() ? r->group + " " + r->what : r->group;
    const auto [found, is_new] = index.try_emplace(title, result.size());
    if (is_new) {
      result.push_back({title, {}});
    }
    result[found->second].rows.push_back(r);
  }
  return result;
}

// A verdict is a word, everything else a number.
Json figure_json(const ValidationRow& r, const std::optional<double>& figure) {
  return r.kind == RowKind::verdict && figure ? Json(verdict_word(*figure)) : or_null(figure);
}

Json row_json(const ValidationRow& r) {
  Json row{{"id", r.id},
           {"group", r.group},
           {"predicted", figure_json(r, r.predicted)},
           {"measured", figure_json(r, r.measured)},
           {"unit", r.unit},
           {"error", r.skipped ? Json(nullptr) : number(r.error())},
           {"low", or_null(r.low)},
           {"high", or_null(r.high)},
           {"fits", r.fits ? Json(*r.fits) : Json(nullptr)},
           {"skipped", r.skipped ? Json(*r.skipped) : Json(nullptr)},
           {"system", r.system}};
  if (r.kind == RowKind::collective) {
    row["fitted"] = r.fitted;
  } else if (r.kind == RowKind::whole_run) {
    row["at_least"] = r.at_least;
    row["notes"] = r.notes;
  } else {
    row["memory"] = {{"predicted_bytes", or_null(r.predicted_memory)}, {"measured_bytes", or_null(r.measured_memory)}};
    Json breakdown = Json::object();
    for (const auto& [bucket, seconds] : r.breakdown) {
      breakdown[bucket] = number(seconds);
    }
    row["breakdown_s"] = r.breakdown.empty() ? Json(nullptr) : std::move(breakdown);
    row["notes"] = r.notes;
  }
  return row;
}

std::vector<double> errors(const ValidationRows& rows, const SizeBand& band) {
  std::vector<double> result;
  for (const ValidationRow* r : rows) {
    if (!r->skipped && r->bytes >= band.from && r->bytes < band.below) {
      result.push_back(std::abs(r->error()));
    }
  }
  return result;
}

Table table_of(const std::string& title, const std::vector<Part>& shown) {
  Table t;
  t.title = title;
  t.columns = {{"table, collective"}, {"system"}, {"rows", Align::right}};
  for (const SizeBand& band : size_bands()) {
    t.columns.push_back({band.name, Align::right});
  }
  t.columns.push_back({""});
  for (const Part& part : shown) {
    std::vector<Cell> cells{part.title, part.rows.front()->system, count(static_cast<std::int64_t>(part.rows.size()))};
    std::string bad;
    for (const SizeBand& band : size_bands()) {
      const std::vector<double> e = errors(part.rows, band);
      const double m = e.empty() ? 0 : median(e);
      cells.push_back(e.empty() ? Cell("-", Tone::dim) : Cell(percent(m), m <= band.good ? Tone::good : Tone::bad));
      bad = m > band.good ? "beyond" : bad;
    }
    cells.emplace_back(bad, Tone::bad);
    t.rows.push_back(std::move(cells));
  }
  return t;
}

}  // namespace

const std::vector<SizeBand>& size_bands() {
  static const std::vector<SizeBand> bands{
      {"below 64 KB", 0, 64e3, 0.20}, {"to 64 MB", 64e3, 64e6, 0.15}, {"64 MB and up", 64e6, INFINITY, 0.06}};
  return bands;
}

double median(std::vector<double> values) {
  CHECK(!values.empty(), "the median of nothing");
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

ValidationSummary summarise(const ValidationRows& rows) {
  ValidationSummary s;
  std::vector<double> errors, verdicts;
  for (const ValidationRow* r : rows) {
    ++s.rows;
    if (r->skipped) {
      ++s.skipped;
      continue;
    }
    ++s.used;
    (r->kind == RowKind::verdict ? verdicts : errors).push_back(r->error());
  }
  const ErrorFigures f = error_figures(errors.empty() ? verdicts : errors);
  if (f.rows > 0) {
    s.median_abs_error = f.median;
    s.p90_abs_error = f.p90;
    s.bias = f.bias;
  }
  return s;
}

Json to_json(const Validation& validation) {
  Json groups = Json::object();
  for (const Part& part : by_group(validation)) {
    groups[part.title] = to_json(summarise(part.rows));
  }
  Json rows = Json::array();
  for (const ValidationRow& r : validation.rows) {
    rows.push_back(row_json(r));
  }
  Json document{{"schema", "foretrain.validate/1"},
                {"overall", to_json(summarise(pointers(validation.rows)))},
                {"groups", std::move(groups)}};
  if (const auto trainings = split(validation).trainings; !trainings.empty()) {
    document["training"] = training_json(trainings);
  }
  document["rows"] = std::move(rows);
  return document;
}

std::vector<ValidationPart> by_group(const Validation& validation) {
  return parts(pointers(validation.rows), false);
}

std::map<std::string, int> skip_reasons(const ValidationRows& rows) {
  std::map<std::string, int> reasons;
  for (const ValidationRow* r : rows) {
    if (r->skipped) {
      ++reasons[*r->skipped];
    }
  }
  return reasons;
}

const char* verdict_word(double figure) {
  return figure > 0 ? "OOM" : "FITS";
}

namespace {

std::string collectives_text(const ValidationRows& collectives, bool colour) {
  std::vector<Part> fitted, alone;
  for (Part& part : parts(collectives, true)) {
    const auto used = std::find_if(part.rows.begin(), part.rows.end(), [](const auto* r) { return !r->skipped; });
    if (used != part.rows.end()) {
      ((*used)->fitted ? fitted : alone).push_back(std::move(part));
    }
  }
  std::string out;
  const auto all = [&out](const std::vector<Part>& some) {
    ValidationRows rows;
    for (const Part& part : some) {
      rows.insert(rows.end(), part.rows.begin(), part.rows.end());
    }
    out += "median |error| of all these rows:";
    for (const SizeBand& band : size_bands()) {
      const std::vector<double> e = errors(rows, band);
      out += fmt::format("  {} {}", band.name, e.empty() ? "-" : percent(median(e)));
    }
    out += "\n\n";
  };
  if (!fitted.empty()) {
    out += to_text(table_of("Median |error|, constants fitted to the system and collective", fitted), colour);
    all(fitted);
  }
  if (!alone.empty()) {
    out += to_text(table_of("Median |error|, from link speeds and NCCL's constants alone", alone), colour);
    all(alone);
  }
  return out;
}

}  // namespace

std::string to_text(const Validation& validation, bool colour) {
  const ValidationRows rows = pointers(validation.rows);
  const auto [collectives, trainings, runs] = split(validation);
  std::string out = collectives_text(collectives, colour) + training_text(trainings, colour) + runs_text(runs, colour);
  const ValidationSummary s = summarise(rows);
  out += fmt::format("{} rows, {} used, {} skipped", count(s.rows), count(s.used), count(s.skipped));
  if (!collectives.empty() && trainings.empty() && s.used > 0) {
    out += fmt::format("; median |error| {}, p90 {}, bias {}", percent(*s.median_abs_error), percent(*s.p90_abs_error),
                       signed_percent(*s.bias));
  }
  out += "\n";
  for (const auto& [reason, skipped] : skip_reasons(rows)) {
    out += fmt::format("  skipped {}: {}\n", count(skipped), reason);
  }
  return out;
}

std::string to_csv(const Validation& validation) {
  const auto is_training = [](const ValidationRow& r) { return r.kind != RowKind::collective; };
  const bool trainings = std::any_of(validation.rows.begin(), validation.rows.end(), is_training);
  Table t;
  t.columns = {{"id"},        {"group"},    {"what"}, {"system"}, {"bytes"},
               {"predicted"}, {"measured"}, {"unit"}, {"error"},  {"skipped"}};
  if (trainings) {
    t.columns.insert(t.columns.end(),
                     {{"devices"}, {"predicted_memory"}, {"measured_memory"}, {"fits"}, {"low"}, {"high"}, {"notes"}});
  }
  const auto figure = [](const std::optional<double>& v) { return v ? fmt::format("{}", *v) : std::string(); };
  for (const ValidationRow& r : validation.rows) {
    t.rows.push_back({r.id, r.group, r.what, r.system, fmt::format("{}", r.bytes), figure(r.predicted),
                      figure(r.measured), r.unit, r.skipped ? std::string() : fmt::format("{}", r.error()),
                      r.skipped.value_or("")});
    if (trainings) {
      const std::vector<Cell> more{is_training(r) ? fmt::format("{}", r.ranks) : "",
                                   figure(r.predicted_memory),
                                   figure(r.measured_memory),
                                   r.fits ? (*r.fits ? "true" : "false") : "",
                                   figure(r.low),
                                   figure(r.high),
                                   fmt::format("{}", fmt::join(r.notes, "; "))};
      t.rows.back().insert(t.rows.back().end(), more.begin(), more.end());
    }
  }
  return to_csv(t);
}

}  // namespace foretrain::reports
