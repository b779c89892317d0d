#include "reports/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kTopChanges = 3;
constexpr std::size_t kPathShown = 12;

bool helps(const ChangedPlan& c) {
  return c.fits && c.gain > 0;
}

// The first three that fit and help.
std::vector<const ChangedPlan*> top_changes(const Explanation& e) {
  std::vector<const ChangedPlan*> top;
  for (const ChangedPlan& c : e.changes) {
    if (helps(c) && top.size() < kTopChanges) {
      top.push_back(&c);
    }
  }
  return top;
}

// The best that fits only with more memory, and is better than what fits without; nullptr: none.
const ChangedPlan* bought_by_memory(const Explanation& e) {
  for (const ChangedPlan& c : e.changes) {
    if (c.fits || c.gain <= 0) {
      return nullptr;
    }
    if (c.fits_with_more) {
      return &c;
    }
  }
  return nullptr;
}

Json change_json(const ChangedPlan& c) {
  return {{"what", c.change.what},
          {"change", c.change.overrides},
          {"fits", c.fits},
          {"demand_bytes", c.demand.value},
          {"step_time_s", number(seconds(c.step_time))},
          {"gain", number(c.gain)}};
}

std::string joined(const std::vector<std::string>& overrides) {
  std::string text;
  for (const std::string& o : overrides) {
    text += (text.empty() ? "" : " ") + (o.starts_with("strategy.") ? o.substr(9) : o);
  }
  return text;
}

std::string path_text(const Explanation& e, bool colour) {
  Table table{"Critical path of a step, by op kind and link",
              {{"op"}, {"link"}, {"ops", Align::right}, {"time", Align::right}, {"", Align::right}},
              {}};
  Time step, rest;
  std::int64_t rest_ops = 0;
  for (const PathPart& p : e.path) {
    step += p.time;
  }
  const auto share = [&](Time t) { return percent(seconds(t) / seconds(step)); };
  for (std::size_t i = 0; i < e.path.size(); ++i) {
    const PathPart& p = e.path[i];
    if (i >= kPathShown) {
      rest += p.time;
      rest_ops += p.ops;
      continue;
    }
    table.rows.push_back({p.kind.empty() ? "waiting for the host" : p.kind, p.link, count(p.ops),
                          seconds_text(seconds(p.time)), share(p.time)});
  }
  if (rest_ops > 0) {
    table.rows.push_back({"all others", "", count(rest_ops), seconds_text(seconds(rest)), share(rest)});
  }
  return to_text(table, colour);
}

std::string resources_text(const Explanation& e, bool colour) {
  Table table = resources_table(e.resources);
  const ChangedPlan* bought = bought_by_memory(e);
  for (std::size_t i = 0; i < e.resources.size() && bought != nullptr; ++i) {
    if (e.resources[i].name == "memory_size") {
      table.rows[i].back().text =
          fmt::format("but then {} fits, and a step takes {}: {}", joined(bought->change.overrides),
                      seconds_text(seconds(bought->step_time)), signed_percent(-bought->gain));
    }
  }
  return to_text(table, colour);
}

std::string changes_text(const Explanation& e, bool colour) {
  Table table{"What to change first, each simulated by itself",
              {{"change"}, {""}, {"step time", Align::right}, {"shorter by", Align::right}, {"memory", Align::right}},
              {}};
  for (const ChangedPlan* c : top_changes(e)) {
    table.rows.push_back({joined(c->change.overrides), c->change.what, seconds_text(seconds(c->step_time)),
                          Cell(percent(c->gain), Tone::good), to_string(c->demand)});
  }
  if (table.rows.empty()) {
    return fmt::format("None of the {} changes of one thing that were simulated fits and makes the step shorter.\n",
                       e.changes.size());
  }
  const auto tried = e.changes.size();
  const auto fit =
      static_cast<std::size_t>(std::count_if(e.changes.begin(), e.changes.end(), [](const auto& c) { return c.fits; }));
  return to_text(table, colour) + fmt::format("{} were simulated, {} of them fit\n", tried, fit);
}

std::string short_name(const std::string& field) {
  return field.substr(field.find('.') + 1);
}

}  // namespace

Json to_json(const ResourceGain& r) {
  return {{"resource", r.name},
          {"factor", r.factor},
          {"step_time_s", number(seconds(r.step_time))},
          {"gain", number(r.gain)},
          {"why", r.why.empty() ? Json(nullptr) : Json(r.why)}};
}

Table resources_table(const std::vector<ResourceGain>& resources) {
  Table table{"What a tenth more of a resource would buy",
              {{"resource"}, {"", Align::right}, {"step time", Align::right}, {"shorter by", Align::right}, {""}},
              {}};
  for (const ResourceGain& r : resources) {
    table.rows.push_back({r.words, signed_percent(r.factor - 1), seconds_text(seconds(r.step_time)),
                          Cell(percent(r.gain), r.gain > 0.01 ? Tone::good : Tone::plain), Cell(r.why, Tone::dim)});
  }
  return table;
}

Json to_json(const Explanation& e) {
  Json path = Json::array(), resources = Json::array(), changes = Json::array(), top = Json::array();
  for (const PathPart& p : e.path) {
    path.push_back({{"kind", p.kind.empty() ? Json("host") : Json(p.kind)},
                    {"link", p.link.empty() ? Json(nullptr) : Json(p.link)},
                    {"ops", p.ops},
                    {"time_s", number(seconds(p.time))}});
  }
  for (const ResourceGain& r : e.resources) {
    resources.push_back(to_json(r));
    if (r.name == "memory_size") {
      const ChangedPlan* bought = bought_by_memory(e);
      resources.back()["then_fits"] = bought == nullptr ? Json(nullptr) : change_json(*bought);
    }
  }
  for (const ChangedPlan* c : top_changes(e)) {
    top.push_back(change_json(*c));
  }
  for (const ChangedPlan& c : e.changes) {
    changes.push_back(change_json(c));
  }
  const Estimate& estimate = *e.estimate;
  return {{"schema", "foretrain.explain/1"},
          {"job", headline(*estimate.job)},
          {"fits", estimate.fit.fits()},
          {"step_time_s", number(seconds(estimate.step_time))},
          {"critical_path", path},
          {"resources", resources},
          {"top_changes", top},
          {"changes", changes},
          {"interrupted", e.interrupted}};
}

std::string to_text(const Explanation& e, bool colour) {
  const Estimate& estimate = *e.estimate;
  return fmt::format("{}\n\nA step takes {}{}.\n\n{}\n{}\n{}", headline(*estimate.job),
                     seconds_text(seconds(estimate.step_time)), estimate.fit.fits() ? "" : ", if it fitted",
                     path_text(e, colour), resources_text(e, colour), changes_text(e, colour)) +
         (e.interrupted ? "\nInterrupted: resources and changes that were not simulated by then are left out.\n" : "");
}

Json to_json(const Sweep& s) {
  Json rows = Json::array(), axes = Json::array();
  for (std::size_t a = 0; a < s.axes.size(); ++a) {
    axes.push_back({{"field", s.axes[a].field},
                    {"values", s.axes[a].values},
                    {"no_effect", s.no_effect[a].empty() ? Json(nullptr) : Json(s.no_effect[a])}});
  }
  for (const SweepRow& r : s.rows) {
    Json set = Json::object();
    for (std::size_t a = 0; a < s.axes.size(); ++a) {
      set[s.axes[a].field] = r.values[a];
    }
    if (!r.refused.empty()) {
      rows.push_back({{"set", set}, {"refused", r.refused}});
      continue;
    }
    rows.push_back({{"set", set},
                    {"fits", r.fits},
                    {"step_time_s", number(seconds(r.step_time))},
                    {"tokens_per_s", number(r.tokens_per_second)},
                    {"mfu", number(r.mfu)},
                    {"demand_bytes", r.demand.value},
                    {"capacity_bytes", r.capacity.value}});
  }
  return {{"schema", "foretrain.sweep/1"}, {"axes", axes}, {"dp_follows", s.dp_follows}, {"rows", rows}};
}

std::string to_text(const Sweep& s, bool colour) {
  Table table;
  for (const SweepAxis& axis : s.axes) {
    table.columns.push_back({short_name(axis.field), Align::right});
  }
  for (const char* title : {"step time", "tokens/s", "MFU", "memory"}) {
    table.columns.push_back({title, Align::right});
  }
  table.columns.push_back({""});
  double best = 0;  // steps of another batch or sequence are no shorter or longer
  for (const SweepRow& r : s.rows) {
    best = r.fits ? std::max(best, r.tokens_per_second) : best;
  }
  for (const SweepRow& r : s.rows) {
    std::vector<Cell> cells(r.values.begin(), r.values.end());
    if (!r.refused.empty()) {
      cells.insert(cells.end(), {"-", "-", "-", "-", Cell(r.refused, Tone::dim)});
    } else {
      const bool is_best = r.fits && r.tokens_per_second == best;
      cells.insert(cells.end(), {Cell(seconds_text(seconds(r.step_time)), is_best ? Tone::strong : Tone::plain),
                                 compact(r.tokens_per_second), percent(r.mfu), to_string(r.demand),
                                 r.fits ? Cell(is_best ? "best" : "", Tone::good) : Cell("does not fit", Tone::bad)});
    }
    table.rows.push_back(std::move(cells));
  }
  std::string text = to_text(table, colour);
  if (s.dp_follows) {
    text += "dp is what the devices leave\n";
  }
  for (std::size_t a = 0; a < s.axes.size(); ++a) {
    if (!s.no_effect[a].empty()) {
      text += fmt::format("{} makes no difference: {}\n", short_name(s.axes[a].field), s.no_effect[a]);
    }
  }
  return text;
}

}  // namespace foretrain::reports
