#include "reports/validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "reports/table.h"
#include "reports/text.h"

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

std::vector<const ValidationRow*> pointers(const std::vector<ValidationRow>& rows) {
  std::vector<const ValidationRow*> result;
  for (const ValidationRow& r : rows) {
    result.push_back(&r);
  }
  return result;
}

// Rows of a table and collective, in the order that they first come.
struct Part {
  std::string title;
  std::vector<const ValidationRow*> rows;
};
std::vector<Part> parts(const Validation& validation, bool by_collective) {
  std::vector<Part> result;
  std::map<std::string, std::size_t> index;
  for (const ValidationRow& r : validation.rows) {
    const std::string title = by_collective && !r.what.empty() ? r.group + " " + r.what : r.group;
    const auto [found, is_new] = index.try_emplace(title, result.size());
    if (is_new) {
      result.push_back({title, {}});
    }
    result[found->second].rows.push_back(&r);
  }
  return result;
}

std::vector<double> errors(const std::vector<const ValidationRow*>& rows, const SizeBand& band) {
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

ValidationSummary summarise(const std::vector<const ValidationRow*>& rows) {
  ValidationSummary s;
  std::vector<double> absolute, with_sign;
  for (const ValidationRow* r : rows) {
    ++s.rows;
    if (r->skipped) {
      ++s.skipped;
      continue;
    }
    ++s.used;
    with_sign.push_back(r->error());
    absolute.push_back(std::abs(r->error()));
  }
  if (s.used > 0) {
    s.median_abs_error = median(absolute);
    s.bias = median(with_sign);
    // Nearest rank: the least value that nine in ten do not exceed.
    std::sort(absolute.begin(), absolute.end());
    s.p90_abs_error = absolute[static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(s.used))) - 1];
  }
  return s;
}

Json to_json(const Validation& validation) {
  Json groups = Json::object();
  for (const Part& part : parts(validation, false)) {
    groups[part.title] = to_json(summarise(part.rows));
  }
  Json rows = Json::array();
  for (const ValidationRow& r : validation.rows) {
    rows.push_back({{"id", r.id},
                    {"group", r.group},
                    {"predicted", or_null(r.predicted)},
                    {"measured", or_null(r.measured)},
                    {"unit", r.unit},
                    {"error", r.skipped ? Json(nullptr) : number(r.error())},
                    {"low", nullptr},
                    {"high", nullptr},
                    {"fits", nullptr},
                    {"skipped", r.skipped ? Json(*r.skipped) : Json(nullptr)},
                    {"system", r.system},
                    {"fitted", r.fitted}});
  }
  return {{"schema", "foretrain.validate/1"},
          {"overall", to_json(summarise(pointers(validation.rows)))},
          {"groups", std::move(groups)},
          {"rows", std::move(rows)}};
}

std::string to_text(const Validation& validation, bool colour) {
  std::vector<Part> fitted, alone;
  std::map<std::string, int> reasons;
  for (Part& part : parts(validation, true)) {
    const auto used = std::find_if(part.rows.begin(), part.rows.end(), [](const auto* r) { return !r->skipped; });
    if (used != part.rows.end()) {
      ((*used)->fitted ? fitted : alone).push_back(std::move(part));
    }
  }
  for (const ValidationRow& r : validation.rows) {
    if (r.skipped) {
      ++reasons[*r.skipped];
    }
  }
  std::string out;
  const auto all = [&out](const std::vector<Part>& some) {
    std::vector<const ValidationRow*> rows;
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
  const ValidationSummary s = summarise(pointers(validation.rows));
  out += fmt::format("{} rows, {} used, {} skipped", count(s.rows), count(s.used), count(s.skipped));
  if (s.used > 0) {
    out += fmt::format("; median |error| {}, p90 {}, bias {}", percent(*s.median_abs_error), percent(*s.p90_abs_error),
                       signed_percent(*s.bias));
  }
  out += "\n";
  for (const auto& [reason, rows] : reasons) {
    out += fmt::format("  skipped {}: {}\n", count(rows), reason);
  }
  return out;
}

std::string to_csv(const Validation& validation) {
  Table t;
  t.columns = {{"id"},        {"group"},    {"what"}, {"system"}, {"bytes"},
               {"predicted"}, {"measured"}, {"unit"}, {"error"},  {"skipped"}};
  const auto figure = [](const std::optional<double>& v) { return v ? fmt::format("{}", *v) : std::string(); };
  for (const ValidationRow& r : validation.rows) {
    t.rows.push_back({r.id, r.group, r.what, r.system, fmt::format("{}", r.bytes), figure(r.predicted),
                      figure(r.measured), r.unit, r.skipped ? std::string() : fmt::format("{}", r.error()),
                      r.skipped.value_or("")});
  }
  return to_csv(t);
}

}  // namespace foretrain::reports
