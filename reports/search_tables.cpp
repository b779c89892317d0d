#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "reports/figures.h"
#include "reports/report_tables.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

constexpr int kShades = 4;

// The faster the more marks.
std::string shade(double step, double least, double most) {
  const double part = most > least ? (most - step) / (most - least) : 1;
  return std::string(static_cast<std::size_t>(1 + std::lround(part * (kShades - 1))), '#');
}

Table plans_table(const std::vector<PlanFigures>& plans, std::string title) {
  Table t;
  t.title = std::move(title);
  t.columns = {{""}, {"strategy"}, {"step time", Align::right}, {"tokens/s", Align::right}, {"memory", Align::right}};
  const bool priced = !plans.empty() && plans.front().money.has_value();
  if (priced) {
    t.columns.push_back({"money", Align::right});
  }
  for (const PlanFigures& p : plans) {
    t.rows.push_back({Cell(p.is_best ? "best" : "", Tone::good), p.strategy, seconds_text(p.step_seconds),
                      compact(p.tokens_per_second), to_string(Bytes{static_cast<std::int64_t>(p.memory_bytes)})});
    if (priced) {
      t.rows.back().emplace_back(compact(*p.money));
    }
  }
  return t;
}

Table scaling_table(const SearchFigures& s) {
  const auto any = [&](std::optional<double> ScalingPoint::*figure) {
    return std::any_of(s.scaling.begin(), s.scaling.end(), [&](const ScalingPoint& p) { return bool(p.*figure); });
  };
  const bool has_days = any(&ScalingPoint::days), has_money = any(&ScalingPoint::money);
  const auto cell = [](const std::optional<double>& value, auto show) { return value ? show(*value) : "-"; };
  Table t;
  t.title = "Sizes of the cluster";
  t.columns = {
      {"nodes", Align::right}, {"step time", Align::right}, {"tokens/s", Align::right}, {"efficiency", Align::right}};
  if (has_days) {
    t.columns.insert(t.columns.end(), {{"days", Align::right}, {"device-hours", Align::right}});
  }
  if (has_money) {
    t.columns.push_back({"money", Align::right});
  }
  t.columns.insert(t.columns.end(), {{""}, {"strategy"}});
  for (const ScalingPoint& p : s.scaling) {
    std::vector<Cell> row{count(p.nodes), cell(p.step_seconds, seconds_text), cell(p.tokens_per_second, compact),
                          cell(p.efficiency, percent)};
    if (has_days) {
      row.emplace_back(cell(p.days, [](double days) { return fmt::format("{:.2f}", days); }));
      row.emplace_back(cell(p.device_hours, compact));
    }
    if (has_money) {
      row.emplace_back(cell(p.money, compact));
    }
    row.emplace_back(p.is_knee ? "knee" : "", Tone::good);
    row.emplace_back(p.step_seconds ? p.strategy : "no plan fits");
    t.rows.push_back(std::move(row));
  }
  return t;
}

Table rejected_table(const SearchFigures& s) {
  Table t;
  t.title = "Plans rejected, by reason";
  t.columns = {{"reason"}, {"plans", Align::right}};
  for (const auto& [reason, n] : s.rejected) {
    t.rows.push_back({reason, count(n)});
  }
  return t;
}

}  // namespace

Table grid_table(const std::vector<GridCell>& grid) {
  std::set<std::int64_t> tps, pps;
  double least = INFINITY, most = 0;
  for (const GridCell& c : grid) {
    tps.insert(c.tp);
    pps.insert(c.pp);
    if (c.step_seconds) {
      least = std::min(least, *c.step_seconds);
      most = std::max(most, *c.step_seconds);
    }
  }
  most = std::max(most, 1.1 * least);  // within a tenth of the best all are nearly as good
  Table t;
  t.title =
      "Best step time, tp down and pp across; # the more the faster, > where only a bound judged, - where none fits";
  t.columns = {{""}};
  for (const std::int64_t pp : pps) {
    t.columns.push_back({fmt::format("pp {}", pp), Align::right});
  }
  for (const std::int64_t tp : tps) {
    std::vector<Cell> row{fmt::format("tp {}", tp)};
    for (const std::int64_t pp : pps) {
      const auto cell =
          std::find_if(grid.begin(), grid.end(), [&](const GridCell& c) { return c.tp == tp && c.pp == pp; });
      if (cell == grid.end()) {
        row.emplace_back("");
      } else if (cell->step_seconds) {
        row.emplace_back(
            fmt::format("{} {}", shade(*cell->step_seconds, least, most), seconds_text(*cell->step_seconds)),
            *cell->step_seconds == least ? Tone::good : Tone::plain);
      } else if (cell->fits && cell->at_least_seconds) {
        row.emplace_back("> " + seconds_text(*cell->at_least_seconds), Tone::dim);
      } else {
        row.emplace_back("-", Tone::dim);
      }
    }
    t.rows.push_back(std::move(row));
  }
  return t;
}

std::vector<Table> search_tables(const SearchFigures& s) {
  const std::string proof = s.proved ? ", the best one proved"
                            : s.best_possible_seconds && !s.plans.empty()
                                ? fmt::format(", the best one within {:.1f} % of what any could reach",
                                              100 * (1 - *s.best_possible_seconds / s.plans.front().step_seconds))
                                : "";
  std::vector<Table> tables{
      plans_table(s.plans, fmt::format("Plans that no other beats in both throughput and memory: {} judged, {} "
                                       "simulated{}",
                                       count(s.judged), count(s.simulated), proof)),
      plans_table(s.runners_up, "The next in speed"), grid_table(s.grid), scaling_table(s), rejected_table(s)};
  std::erase_if(tables, [](const Table& t) { return t.rows.empty(); });
  return tables;
}

}  // namespace foretrain::reports
