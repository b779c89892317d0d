#include "reports/validation_training.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Rows = std::vector<const ValidationRow*>;

constexpr std::size_t kRowsShown = 60;    // more are for --csv and --json
constexpr std::size_t kPlansToRank = 10;  // fewer rows are no sweep
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

template <class Condition>
Rows filter(const Rows& rows, Condition condition) {
  Rows result;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(result), condition);
  return result;
}

bool is_timed(const ValidationRow* r) {
  return r->kind == RowKind::step_time;
}
bool is_used_time(const ValidationRow* r) {
  return is_timed(r) && !r->skipped;
}
bool has_memory(const ValidationRow* r) {
  return r->predicted_memory && r->measured_memory;
}

std::vector<ValidationPart> groups_of(const Rows& rows) {
  std::vector<ValidationPart> result;
  for (const ValidationRow* r : rows) {
    auto found =
        std::find_if(result.begin(), result.end(), [&](const ValidationPart& p) { return p.title == r->group; });
    if (found == result.end()) {
      found = result.insert(result.end(), {r->group, {}});
    }
    found->rows.push_back(r);
  }
  return result;
}

// Median, p90 and bias of signed errors; dashes of none.
struct ErrorFigures {
  double median = NAN, p90 = NAN, bias = NAN, worst = NAN;
};
ErrorFigures figures(const std::vector<double>& with_sign) {
  ErrorFigures f;
  if (with_sign.empty()) {
    return f;
  }
  std::vector<double> absolute;
  for (const double e : with_sign) {
    absolute.push_back(std::abs(e));
  }
  f.median = median(absolute);
  f.bias = median(with_sign);
  std::sort(absolute.begin(), absolute.end());
  f.p90 = absolute[static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(absolute.size()))) - 1];
  f.worst = absolute.back();
  return f;
}
std::vector<Cell> cells(const ErrorFigures& f) {
  return {percent(f.median), percent(f.p90), signed_percent(f.bias), percent(f.worst)};
}

std::vector<double> time_errors(const Rows& rows) {
  std::vector<double> result;
  for (const ValidationRow* r : rows) {
    if (is_used_time(r)) {
      result.push_back(r->error());
    }
  }
  return result;
}

std::string systems(const Rows& rows) {
  std::vector<std::string> names;
  for (const ValidationRow* r : rows) {
    if (!r->system.empty() && std::find(names.begin(), names.end(), r->system) == names.end()) {
      names.push_back(r->system);
    }
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string time_table(const Rows& rows, bool colour) {
  Table t;
  t.title = "Step time";
  t.columns = {{"group"},
               {"GPU"},
               {"rows", Align::right},
               {"used", Align::right},
               {"median |error|", Align::right},
               {"p90", Align::right},
               {"bias", Align::right},
               {"worst", Align::right}};
  std::vector<double> medians, biases;
  const auto add = [&](const std::string& title, const Rows& of) {
    const std::vector<double> errors = time_errors(of);
    std::vector<Cell> row{title, title == "all" ? "" : systems(of), count(std::ssize(of)), count(std::ssize(errors))};
    for (Cell& c : cells(figures(errors))) {
      row.push_back(std::move(c));
    }
    t.rows.push_back(std::move(row));
  };
  for (const ValidationPart& group : groups_of(rows)) {
    add(group.title, group.rows);
    // Groups count alike, whatever their size, and only where the source states the whole plan.
    const Rows exact = filter(group.rows, [](const ValidationRow* r) { return r->exact; });
    if (const std::vector<double> errors = time_errors(exact); !errors.empty()) {
      medians.push_back(figures(errors).median);
    }
  }
  add("all", rows);
  std::string out = to_text(t, colour);
  if (!medians.empty()) {
    out += fmt::format(
        "median over {} groups of the median |error| of rows whose plan is stated whole, without caveat: {}\n"
        "No constant was fitted to any of these runs: each group is left out of every fit.\n",
        medians.size(), percent(median(medians)));
  }
  return out + "\n";
}

std::string row_table(const Rows& rows, bool colour) {
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

std::string ranking_table(const Rows& rows, bool colour) {
  Table t;
  t.title = "Ranking of plans";
  t.columns = {{"group"},
               {"plans", Align::right},
               {"Spearman, tokens/s", Align::right},
               {"workloads", Align::right},
               {"chosen plan behind the best: median", Align::right},
               {"worst", Align::right}};
  for (const ValidationPart& group : groups_of(rows)) {
    const Rows used = filter(group.rows, is_used_time);
    if (used.size() < kPlansToRank) {
      continue;
    }
    std::vector<double> predicted, measured;
    for (const ValidationRow* r : used) {
      const double tokens = r->tokens / static_cast<double>(r->ranks);
      predicted.push_back(tokens / *r->predicted);
      measured.push_back(tokens / *r->measured);
    }
    const std::optional<double> rho = spearman(predicted, measured);
    const std::vector<double> losses = best_plan_losses(used);
    t.rows.push_back({group.title, count(std::ssize(used)), rho ? fmt::format("{:.3f}", *rho) : "-",
                      count(std::ssize(losses)), losses.empty() ? "-" : percent(median(losses)),
                      losses.empty() ? "-" : percent(*std::max_element(losses.begin(), losses.end()))});
  }
  return t.rows.empty() ? "" : to_text(t, colour) + "\n";
}

std::string memory_table(const Rows& rows, bool colour) {
  Table t;
  t.title = "Memory of the fullest device, planned beside measured";
  t.columns = {{"group"},
               {"rows", Align::right},
               {"median |error|", Align::right},
               {"p90", Align::right},
               {"bias", Align::right},
               {"worst", Align::right}};
  for (const ValidationPart& group : groups_of(filter(rows, has_memory))) {
    std::vector<double> errors;
    for (const ValidationRow* r : group.rows) {
      errors.push_back(*r->predicted_memory / *r->measured_memory - 1);
    }
    std::vector<Cell> row{group.title, count(std::ssize(errors))};
    for (Cell& c : cells(figures(errors))) {
      row.push_back(std::move(c));
    }
    t.rows.push_back(std::move(row));
  }
  return t.rows.empty() ? "" : to_text(t, colour) + "\n";
}

std::string verdict_table(const Rows& rows, bool colour) {
  Table t;
  t.title = "Verdicts on memory";
  t.columns = {{""}, {"plans", Align::right}, {"judged OOM", Align::right}, {"", Align::right}};
  const auto add = [&](const char* title, const Rows& of) {
    const auto refused = std::count_if(of.begin(), of.end(), [](const ValidationRow* r) { return !*r->fits; });
    if (!of.empty()) {
      t.rows.push_back({title, count(std::ssize(of)), count(refused),
                        percent(static_cast<double>(refused) / static_cast<double>(of.size()))});
    }
  };
  const Rows judged = filter(rows, [](const ValidationRow* r) { return r->fits.has_value(); });
  add("ran out of memory", filter(judged, [](const ValidationRow* r) { return r->kind == RowKind::verdict; }));
  add("ran", filter(judged, is_timed));
  return t.rows.empty() ? "" : to_text(t, colour) + "\n";
}

// Mean ranks from 1 on.
std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (std::size_t i = 0; i < order.size();) {
    std::size_t end = i;
    while (end < order.size() && values[order[end]] == values[order[i]]) {
      ++end;
    }
    for (std::size_t k = i; k < end; ++k) {
      result[order[k]] = static_cast<double>(i + end + 1) / 2;
    }
    i = end;
  }
  return result;
}

}  // namespace

std::optional<double> spearman(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr std::size_t kFewest = 3;
  if (a.size() < kFewest) {
    return std::nullopt;
  }
  const std::vector<double> x = ranks(a), y = ranks(b);
  const double mean = static_cast<double>(a.size() + 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? std::optional(xy / std::sqrt(xx * yy)) : std::nullopt;
}

std::vector<double> best_plan_losses(const Rows& rows) {
  constexpr std::size_t kFewest = 3;
  std::vector<std::string> order;
  std::map<std::string, Rows> workloads;
  for (const ValidationRow* r : rows) {
    if (is_used_time(r)) {
      Rows& plans = workloads[r->group + "\n" + r->workload];
      if (plans.empty()) {
        order.push_back(r->group + "\n" + r->workload);
      }
      plans.push_back(r);
    }
  }
  std::vector<double> losses;
  for (const std::string& workload : order) {
    const Rows& plans = workloads[workload];
    if (plans.size() < kFewest) {
      continue;
    }
    const auto by = [](auto figure) {
      return [figure](const ValidationRow* a, const ValidationRow* b) { return a->*figure < b->*figure; };
    };
    const ValidationRow* chosen = *std::min_element(plans.begin(), plans.end(), by(&ValidationRow::predicted));
    const ValidationRow* best = *std::min_element(plans.begin(), plans.end(), by(&ValidationRow::measured));
    losses.push_back(*chosen->measured / *best->measured - 1);
  }
  return losses;
}

std::string training_text(const Rows& rows, bool colour) {
  if (rows.empty()) {
    return "";
  }
  std::string out;
  if (rows.size() <= kRowsShown) {
    out += row_table(rows, colour);
  }
  if (const Rows timed = filter(rows, is_timed); !timed.empty()) {
    out += time_table(timed, colour) + ranking_table(timed, colour);
  }
  return out + memory_table(rows, colour) + verdict_table(rows, colour);
}

}  // namespace foretrain::reports
