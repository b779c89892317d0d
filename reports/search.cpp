#include "reports/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "reports/figures.h"
#include "reports/report_tables.h"
#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostReasons = 12;

// Of how many plans: "12.9 million".
std::string counted(std::int64_t n) {
  return n >= 10'000'000 ? fmt::format("{:.1f} million", static_cast<double>(n) * 1e-6) : count(n);
}

Json plan_json(const SearchedPlan& p, double tokens_per_step) {
  Json estimate{{"memory", {{"demand_bytes", p.memory.value}}}};
  if (p.step_time > Time{}) {
    estimate = {{"step_time_s", number(seconds(p.step_time))},
                {"tokens_per_s", number(tokens_per_step / seconds(p.step_time))},
                {"breakdown_s", breakdown_json(p.breakdown)},
                {"memory", {{"demand_bytes", p.memory.value}}}};
  }
  return {{"job", Json::parse(p.job)}, {"estimate", std::move(estimate)}};
}

Json plans_json(const std::vector<SearchedPlan>& plans, double tokens_per_step) {
  Json all = Json::array();
  for (const SearchedPlan& p : plans) {
    all.push_back(plan_json(p, tokens_per_step));
  }
  return all;
}

Json optional_json(const std::optional<double>& value) {
  return value ? number(*value) : Json(nullptr);
}

Json size_json(const SearchedSize& s, double tokens_per_step) {
  Json item{{"nodes", s.nodes}, {"devices", s.devices}};
  const double step = s.best ? seconds(s.best->step_time) : 0;
  item["step_time_s"] = s.best ? number(step) : Json(nullptr);
  item["tokens_per_s"] = s.best ? number(tokens_per_step / step) : Json(nullptr);
  item["tokens_per_s_per_device"] =
      s.best ? number(tokens_per_step / step / static_cast<double>(s.devices)) : Json(nullptr);
  item["efficiency"] = s.best ? number(s.efficiency) : Json(nullptr);
  item["days"] = optional_json(s.days);
  item["device_hours"] = optional_json(s.device_hours);
  item["money"] = optional_json(s.money);
  item["knee"] = s.is_knee;
  item["proved_optimal"] = s.proved;
  item["job"] = s.best ? Json::parse(s.best->job) : Json(nullptr);
  return item;
}

std::string words(const SearchedPlan& p) {
  return strategy_words(nlohmann::json::parse(p.job).value("strategy", nlohmann::json::object()));
}

// Where a plan's time is not where the best one's is: the largest difference first.
std::string what_separates(const SearchedPlan& best, const SearchedPlan& p) {
  std::vector<std::pair<std::string, Time>> parts = breakdown_parts(p.breakdown);
  const std::vector<std::pair<std::string, Time>> of_best = breakdown_parts(best.breakdown);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].second -= of_best[i].second;
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return std::abs(a.second.value) > std::abs(b.second.value); });
  std::vector<std::string> told;
  for (const auto& [name, more] : parts) {
    const double share = seconds(more) / seconds(best.step_time);
    if (told.size() < 2 && std::abs(share) >= 0.0005) {
      told.push_back(fmt::format("{} {:+.1f} %", name, 100 * share));
    }
  }
  return told.empty() ? "-" : fmt::format("{}", fmt::join(told, ", "));
}

Table plans_table(const Search& s) {
  Table t;
  t.title = "Best plans, and those that come next";
  t.columns = {
      {"step", Align::right}, {"tokens/s", Align::right}, {"memory", Align::right}, {"more time in"}, {"plan"}};
  const auto add = [&](const SearchedPlan& p, bool is_best) {
    t.rows.push_back({Cell(to_string(p.step_time), is_best ? Tone::strong : Tone::plain),
                      count(std::llround(s.tokens_per_step / seconds(p.step_time))), to_string(p.memory),
                      is_best ? "" : what_separates(*s.best, p), Cell(words(p), is_best ? Tone::strong : Tone::plain)});
  };
  add(*s.best, true);
  for (const SearchedPlan& p : s.runners_up) {
    add(p, false);
  }
  return t;
}

Table space_table(const Search& s) {
  Table t;
  t.title = fmt::format("Searched: {} plans", counted(s.plans));
  t.columns = {{""}, {""}};
  const Json space = Json::parse(s.space);
  for (const auto& [axis, values] : space.items()) {
    std::vector<std::string> list;
    for (const Json& v : values) {
      list.push_back(v.is_string() ? v.get<std::string>() : v.dump());
    }
    t.rows.push_back({axis, fmt::format("{}", fmt::join(list, axis == "rank_order" ? "  " : " "))});
  }
  for (Column& c : t.columns) {
    c.title.clear();
  }
  return t;
}

Table rejected_table(const Search& s) {
  Table t;
  t.title = fmt::format("Judged {} plans, built {}, simulated {}; left out", counted(s.judged), count(s.built),
                        count(s.simulated));
  t.columns = {{"", Align::right}, {""}};
  std::vector<std::pair<std::string, std::int64_t>> all(s.rejected.begin(), s.rejected.end());
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::int64_t rest = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i < kMostReasons) {
      t.rows.push_back({count(all[i].second), all[i].first});
    } else {
      rest += all[i].second;
    }
  }
  if (rest > 0) {
    t.rows.push_back({count(rest), "for other reasons (--json has all)"});
  }
  return t;
}

Table sizes_table(const Search& s) {
  const bool has_days = std::any_of(s.sizes.begin(), s.sizes.end(), [](const auto& z) { return z.days.has_value(); });
  const bool has_money = std::any_of(s.sizes.begin(), s.sizes.end(), [](const auto& z) { return z.money.has_value(); });
  Table t;
  t.title = "How many nodes";
  t.columns = {{"nodes", Align::right},
               {"devices", Align::right},
               {"step", Align::right},
               {"tokens/s", Align::right},
               {"efficiency", Align::right}};
  if (has_days) {
    t.columns.insert(t.columns.end(), {{"days", Align::right}, {"device-hours", Align::right}});
  }
  if (has_money) {
    t.columns.push_back({"money", Align::right});
  }
  t.columns.insert(t.columns.end(), {{""}, {"plan"}});
  for (const SearchedSize& z : s.sizes) {
    std::vector<Cell> row{count(z.nodes), count(z.devices)};
    if (!z.best) {
      row.insert(row.end(), {Cell("-"), Cell("-"), Cell("-")});
    } else {
      row.insert(row.end(),
                 {to_string(z.best->step_time), count(std::llround(s.tokens_per_step / seconds(z.best->step_time))),
                  fmt::format("{:.1f} %", 100 * z.efficiency)});
    }
    if (has_days) {
      row.push_back(z.days ? fmt::format("{:.3g}", *z.days) : "-");
      row.push_back(z.device_hours ? count(std::llround(*z.device_hours)) : "-");
    }
    if (has_money) {
      row.push_back(z.money ? count(std::llround(*z.money)) : "-");
    }
    row.push_back(z.is_knee ? Cell("knee", Tone::good) : Cell(""));
    row.push_back(z.best ? words(*z.best) + (z.proved ? "" : " (not proved)") : std::string("no plan fits"));
    t.rows.push_back(std::move(row));
  }
  return t;
}

// "(pp) x tp" with the fastest step of each.
Table pareto_table(const Search& s) {
  Table t;
  t.title = "Less memory for more time, of the plans that were simulated";
  t.columns = {{"memory", Align::right}, {"step", Align::right}, {"plan"}};
  for (const SearchedPlan& p : s.pareto) {
    t.rows.push_back({to_string(p.memory), to_string(p.step_time), words(p)});
  }
  return t;
}

Table within_memory_table(const Search& s) {
  Table t;
  t.title = "Less memory for more time: the fastest plan within each limit";
  t.columns = {{"limit", Align::right}, {"memory", Align::right}, {"step", Align::right}, {"plan"}};
  t.rows.push_back({to_string(s.capacity), to_string(s.best->memory), to_string(s.best->step_time), words(*s.best)});
  for (const WithinLimit& w : s.within_memory) {
    const std::string doubt = w.proved ? "" : " (not proved)";
    t.rows.push_back({to_string(w.limit), w.best ? to_string(w.best->memory) : "-",
                      w.best ? to_string(w.best->step_time) : "-",
                      w.best ? words(*w.best) + doubt : "no plan of the space" + doubt});
  }
  return t;
}

std::string proof(const Search& s) {
  if (!s.best) {
    return "";
  }
  const double gap = 1 - seconds(s.best_possible) / seconds(s.best->step_time);
  if (s.proved && gap <= 0) {
    return "No plan of the space is faster, under the model.";
  }
  return fmt::format("{}No plan of the space takes less than {}: the best is within {:.1f} % of that.",
                     s.interrupted ? "Ended early. " : "", to_string(s.best_possible), 100 * gap);
}

}  // namespace

nlohmann::ordered_json to_json(const Search& s) {
  Json document{{"schema", "foretrain.search/1"}};
  document["best"] =
      s.best ? Json{{"job", Json::parse(s.best->job)}, {"estimate", Json::parse(s.estimate)}} : Json(nullptr);
  document["pareto"] = plans_json(s.pareto, s.tokens_per_step);
  if (!s.within_memory.empty()) {
    Json all = Json::array();
    for (const WithinLimit& w : s.within_memory) {
      Json one{{"limit_bytes", w.limit.value}, {"proved_optimal", w.proved}};
      one["plan"] = w.best ? plans_json({*w.best}, s.tokens_per_step)[0] : Json(nullptr);
      all.push_back(std::move(one));
    }
    document["within_memory"] = std::move(all);
  }
  document["runners_up"] = plans_json(s.runners_up, s.tokens_per_step);
  document["plans"] = s.plans;
  document["judged"] = s.judged;
  document["built"] = s.built;
  document["simulated"] = s.simulated;
  document["rejected"] = s.rejected;
  document["space"] = Json::parse(s.space);
  document["bound"] = {{"best_possible_step_time_s", s.best ? number(seconds(s.best_possible)) : Json(nullptr)},
                       {"proved_optimal", s.proved && (!s.best || s.best_possible >= s.best->step_time)}};
  Json grid = Json::array();
  for (const GridCell& c : s.grid) {
    grid.push_back({{"tp", c.tp},
                    {"pp", c.pp},
                    {"step_time_s", optional_json(c.step_seconds)},
                    {"at_least_s", optional_json(c.at_least_seconds)},
                    {"fits", c.fits},
                    {"reason", c.reason}});
  }
  document["grid"] = std::move(grid);
  if (!s.sizes.empty()) {
    Json sizes = Json::array();
    for (const SearchedSize& z : s.sizes) {
      sizes.push_back(size_json(z, s.tokens_per_step));
    }
    document["scaling"] = std::move(sizes);
  }
  document["nearest_miss"] = s.nearest_miss ? Json{{"job", Json::parse(s.nearest_miss->job)},
                                                   {"demand_bytes", s.nearest_miss->memory.value},
                                                   {"missing_bytes", (s.nearest_miss->memory - s.capacity).value}}
                                            : Json(nullptr);
  document["smallest_cluster"] = s.smallest_cluster ? Json{{"nodes", s.smallest_cluster->nodes},
                                                           {"job", Json::parse(s.smallest_cluster->best->job)}}
                                                    : Json(nullptr);
  document["wall_s"] = number(s.wall_seconds);
  return document;
}

std::string to_text(const Search& s, bool colour) {
  std::string out = s.headline + "\n\n";
  if (!s.sizes.empty()) {
    out += to_text(sizes_table(s), colour) + "\n";
  }
  if (s.best) {
    out += to_text(plans_table(s), colour) + "\n" + proof(s) + "\n\n";
    if (!s.within_memory.empty()) {
      out += to_text(within_memory_table(s), colour) + "\n";
    } else if (s.pareto.size() > 1) {
      out += to_text(pareto_table(s), colour) + "\n";
    }
    if (!s.grid.empty()) {
      out += to_text(grid_table(s.grid), colour) + "\n";
    }
  }
  out += to_text(space_table(s), colour) + "\n" + to_text(rejected_table(s), colour);
  return out + fmt::format("\nsearched in {:.1f} s\n", s.wall_seconds);
}

std::string infeasible_message(const Search& s) {
  std::string out = s.interrupted ? "no plan was found before the search ended" : "no plan of the space fits";
  if (!s.interrupted && !s.nearest_miss && !s.rejected.empty()) {
    const auto most = std::max_element(s.rejected.begin(), s.rejected.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    out = fmt::format("no plan of the space is possible; of {} plans, {}: {}", counted(s.judged), counted(most->second),
                      most->first);
  }
  if (s.nearest_miss) {
    out += fmt::format("; nearest: {} demands {}, a device has {}: {} are missing", words(*s.nearest_miss),
                       to_string(s.nearest_miss->memory), to_string(s.capacity),
                       to_string(s.nearest_miss->memory - s.capacity));
  }
  if (s.smallest_cluster) {
    out += fmt::format("; smallest cluster that would do: {} nodes, with {}", s.smallest_cluster->nodes,
                       words(*s.smallest_cluster->best));
  }
  return out;
}

}  // namespace foretrain::reports
