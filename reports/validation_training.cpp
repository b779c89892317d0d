#include "reports/validation_training.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "reports/table.h"
#include "reports/text.h"
#include "reports/validation_figures.h"

namespace foretrain::reports {

namespace {

constexpr std::size_t kRowsShown = 60;  // more are for --csv and --json
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

const std::vector<Column>& error_columns() {
  static const std::vector<Column> columns{{"mean |error|", Align::right},
                                           {"median", Align::right},
                                           {"p90", Align::right},
                                           {"worst", Align::right},
                                           {"bias", Align::right}};
  return columns;
}
std::vector<Cell> cells(const ErrorFigures& f) {
  return {percent(f.mean), percent(f.median), percent(f.p90), percent(f.worst), signed_percent(f.bias)};
}

std::string listed(const std::vector<std::string>& names) {
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string time_table(const ValidationRows& rows, bool colour) {
  const std::vector<GroupFigures> groups = time_figures(rows);
  if (groups.empty()) {
    return "";
  }
  Table t;
  t.title = "Step time";
  t.columns = {{"group"}, {"GPU"}, {"rows", Align::right}, {"used", Align::right}, {"exact", Align::right}};
  t.columns.insert(t.columns.end(), error_columns().begin(), error_columns().end());
  const auto add = [&](const GroupFigures& g) {
    std::vector<Cell> row{g.group, fmt::format("{}", fmt::join(g.systems, ", ")), count(g.rows), count(g.used.rows),
                          count(g.exact.rows)};
    for (Cell& c : cells(g.used)) {
      row.push_back(std::move(c));
    }
    t.rows.push_back(std::move(row));
  };
  GroupFigures all;
  std::vector<double> errors;
  for (const GroupFigures& g : groups) {
    add(g);
    all.rows += g.rows;
    all.exact.rows += g.exact.rows;
  }
  for (const ValidationRow* r : rows) {
    if (r->kind == RowKind::step_time && !r->skipped) {
      errors.push_back(r->error());
    }
  }
  all.group = "all";
  all.used = error_figures(errors);
  add(all);
  const AcrossGroups a = across_groups(groups);
  std::string out = to_text(t, colour);
  if (a.groups > 0) {
    out += fmt::format(
        "over the {} groups with exact rows (the plan stated whole, no caveat), of these rows: median of the medians "
        "{}, "
        "of the p90 {}\n"
        "bias beyond {}: {}; on a device of no other group: {}\n"
        "No constant was fitted to these groups: none has a part in its own forecast.\n",
        a.groups, percent(a.median), percent(a.p90), percent(kBiasAllowed), listed(a.biased), listed(a.alone));
    if (!a.fitted.empty()) {
      out += fmt::format("Not among them, for a constant was fitted to each: {}.\n", listed(a.fitted));
    }
  }
  return out + "\n";
}

std::string row_table(const ValidationRows& rows, bool colour) {
  Table t;
  t.columns = {{"row"},
               {"predicted", Align::right},
               {"measured", Align::right},
               {"error", Align::right},
               {"memory predicted", Align::right},
               {"measured", Align::right},
               {""}};
  const auto memory = [](const std::optional<double>& bytes) {
    return bytes ? fmt::format("{:.1f} GiB", *bytes / kGiB) : std::string("-");
  };
  for (const ValidationRow* r : rows) {
    const auto figure = [&](const std::optional<double>& v) {
      return !v ? std::string("-") : r->kind == RowKind::verdict ? verdict_word(*v) : seconds_text(*v);
    };
    const std::string error = r->skipped                    ? "-"
                              : r->kind == RowKind::verdict ? (r->error() > 0 ? "wrong" : "right")
                                                            : signed_percent(r->error());
    t.rows.push_back({r->id,
                      figure(r->predicted),
                      figure(r->measured),
                      error,
                      memory(r->predicted_memory),
                      memory(r->measured_memory),
                      {r->skipped.value_or(""), Tone::dim}});
  }
  return to_text(t, colour) + "\n";
}

std::string ranking_table(const ValidationRows& rows, bool colour) {
  Table t;
  t.title = "Ranking of plans";
  t.columns = {{"group"},
               {"plans", Align::right},
               {"Spearman, tokens/s", Align::right},
               {"workloads", Align::right},
               {"chosen plan behind the best: median", Align::right},
               {"worst", Align::right}};
  for (const RankingFigures& r : ranking_figures(rows)) {
    t.rows.push_back({r.group, count(r.plans), r.spearman ? fmt::format("{:.3f}", *r.spearman) : "-",
                      count(std::ssize(r.losses)), r.losses.empty() ? "-" : percent(median(r.losses)),
                      r.losses.empty() ? "-" : percent(*std::max_element(r.losses.begin(), r.losses.end()))});
  }
  return t.rows.empty() ? "" : to_text(t, colour) + "\n";
}

std::string memory_table(const ValidationRows& rows, bool colour) {
  Table t;
  t.title = "Memory of the fullest device, planned beside measured";
  t.columns = {{"group"}, {"rows", Align::right}, {"used", Align::right}};
  t.columns.insert(t.columns.end(), error_columns().begin(), error_columns().end());
  for (const GroupFigures& g : memory_figures(rows)) {
    std::vector<Cell> row{g.group, count(g.rows), count(g.used.rows)};
    for (Cell& c : cells(g.used)) {
      row.push_back(std::move(c));
    }
    t.rows.push_back(std::move(row));
  }
  return t.rows.empty() ? "" : to_text(t, colour) + "\n";
}

std::string verdict_table(const ValidationRows& rows, bool colour) {
  Table t;
  t.title = "Verdicts on memory";
  t.columns = {{""}, {"plans", Align::right}, {"judged OOM", Align::right}, {"", Align::right}};
  const auto add = [&](const char* title, int plans, int refused) {
    if (plans > 0) {
      t.rows.push_back({title, count(plans), count(refused), percent(static_cast<double>(refused) / plans)});
    }
  };
  const VerdictFigures v = verdict_figures(rows);
  add("ran out of memory", v.out_of_memory, v.refused);
  add("ran", v.ran, v.ran_refused);
  return t.rows.empty() ? "" : to_text(t, colour) + "\n";
}

std::string band_table(const ValidationRows& rows, bool colour) {
  Table t;
  t.title = "Error bands, each from the residuals of other groups";
  t.columns = {{"group"}, {"runs", Align::right}, {"inside", Align::right}, {"width", Align::right}};
  std::vector<double> covered, widths;
  for (const BandFigures& b : band_figures(rows)) {
    t.rows.push_back({b.group, count(b.runs), percent(b.covered), percent(b.width)});
    covered.push_back(b.covered);
    widths.push_back(b.width);
  }
  if (covered.empty()) {
    return "";
  }
  const double mean = std::accumulate(covered.begin(), covered.end(), 0.0) / static_cast<double>(covered.size());
  t.rows.push_back({"mean of the groups, median width", "", percent(mean), percent(median(widths))});
  return to_text(t, colour) + "\n";
}

}  // namespace

std::string training_text(const ValidationRows& rows, bool colour) {
  const std::string shown = !rows.empty() && rows.size() <= kRowsShown ? row_table(rows, colour) : "";
  return shown + time_table(rows, colour) + ranking_table(rows, colour) + memory_table(rows, colour) +
         verdict_table(rows, colour) + band_table(rows, colour);
}

nlohmann::ordered_json training_json(const ValidationRows& rows) {
  using Json = nlohmann::ordered_json;
  const auto errors = [](const ErrorFigures& f) {
    return Json{{"rows", f.rows},
                {"mean_abs_error", number(f.mean)},
                {"median_abs_error", number(f.median)},
                {"p90_abs_error", number(f.p90)},
                {"worst_abs_error", number(f.worst)},
                {"bias", number(f.bias)}};
  };
  Json step = Json::object(), memory = Json::object(), ranking = Json::object();
  const std::vector<GroupFigures> times = time_figures(rows);
  for (const GroupFigures& g : times) {
    step[g.group] = {{"used", errors(g.used)}, {"exact", errors(g.exact)}};
  }
  for (const GroupFigures& g : memory_figures(rows)) {
    memory[g.group] = errors(g.used);
  }
  for (const RankingFigures& r : ranking_figures(rows)) {
    ranking[r.group] = {{"plans", r.plans},
                        {"spearman", r.spearman ? number(*r.spearman) : Json(nullptr)},
                        {"best_plan_losses", r.losses}};
  }
  Json bands = Json::object();
  for (const BandFigures& b : band_figures(rows)) {
    bands[b.group] = {{"runs", b.runs}, {"covered", number(b.covered)}, {"width", number(b.width)}};
  }
  const AcrossGroups a = across_groups(times);
  const VerdictFigures v = verdict_figures(rows);
  return {{"step_time", std::move(step)},
          {"across_groups",
           {{"groups", a.groups},
            {"median_abs_error", number(a.median)},
            {"p90_abs_error", number(a.p90)},
            {"biased", a.biased},
            {"alone_on_their_device", a.alone}}},
          {"ranking", std::move(ranking)},
          {"memory", std::move(memory)},
          {"verdicts",
           {{"out_of_memory", v.out_of_memory},
            {"out_of_memory_refused", v.refused},
            {"ran", v.ran},
            {"ran_refused", v.ran_refused}}},
          {"bands", std::move(bands)}};
}

}  // namespace foretrain::reports
