#include "reports/search_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using nlohmann::json;

json parse(const std::string& text, const std::string& origin) {
  const JsonDocument document = JsonDocument::from_text(text, origin);
  const json& root = document.root();
  const json schema = root.is_object() ? root.value("schema", json()) : json();
  if (schema != "foretrain.search/1") {
    throw InputError(
        fmt::format("{}: {}; expected a foretrain.search/1 that 'foretrain search --json' prints", origin,
                    schema.is_null() ? "a document without schema" : fmt::format("schema {}", shown(schema))));
  }
  return root;
}

// What stands at a key, of the type that is looked for.
std::optional<double> number_at(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_number() ? std::optional(found->get<double>())
                                                                           : std::nullopt;
}

std::int64_t count_at(const json& object, const char* key) {
  return static_cast<std::int64_t>(number_at(object, key).value_or(0));
}

const json& part(const json& object, const char* key) {
  static const json kNone;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNone;
}

std::string text_at(const json& object, const char* key) {
  const json& value = part(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

bool true_at(const json& object, const char* key) {
  const json& value = part(object, key);
  return value.is_boolean() && value.get<bool>();
}

std::optional<PlanFigures> plan_figures(const json& item) {
  const json& estimate = part(item, "estimate");
  const std::optional<double> step = number_at(estimate, "step_time_s");
  if (!step) {
    return std::nullopt;
  }
  PlanFigures plan;
  plan.step_seconds = *step;
  plan.tokens_per_second = number_at(estimate, "tokens_per_s").value_or(0);
  const json& memory = part(estimate, "memory");
  plan.memory_bytes = number_at(memory, "demand_bytes").value_or(number_at(memory, "peak_bytes").value_or(0));
  const json& strategy = part(part(item, "job"), "strategy");
  plan.strategy = strategy.is_object() ? strategy_words(strategy) : "";
  return plan;
}

// Less memory for more time: leaves out what another plan beats in both, or in one where the other is alike.
void keep_unbeaten(std::vector<PlanFigures>& plans) {
  const auto is_beaten = [all = plans](const PlanFigures& p) {
    return !p.is_best && std::any_of(all.begin(), all.end(), [&](const PlanFigures& other) {
      return other.step_seconds <= p.step_seconds && other.memory_bytes <= p.memory_bytes &&
             (other.step_seconds < p.step_seconds || other.memory_bytes < p.memory_bytes);
    });
  };
  std::erase_if(plans, is_beaten);
  std::stable_sort(plans.begin(), plans.end(), [](const PlanFigures& a, const PlanFigures& b) {
    return std::pair(!a.is_best, a.step_seconds) < std::pair(!b.is_best, b.step_seconds);
  });
}

}  // namespace

std::string strategy_words(const json& strategy) {
  std::vector<std::string> words;
  for (const char* key : {"dp",
                          "tp",
                          "pp",
                          "cp",
                          "ep",
                          "virtual_stages",
                          "micro_batch",
                          "schedule",
                          "zero",
                          "shard",
                          "recompute",
                          "sequence_parallel",
                          "overlap_grad_reduce",
                          "overlap_param_gather",
                          "cp_kind",
                          "overlap_ep",
                          "expert_tp",
                          "offload",
                          "layers_per_stage",
                          "rank_order"}) {
    const json& value = part(strategy, key);
    const std::string word(key);
    if ((word == "schedule" && part(strategy, "pp") == 1) || (word == "cp_kind" && part(strategy, "cp") == 1) ||
        value == "none" || value == "pp,dp,cp,tp" || value.empty()) {
      continue;
    }
    if (value == true) {
      words.push_back(word);
    } else if (value.is_string() && word == "schedule") {
      words.push_back(value.get<std::string>());
    } else if (value.is_string() || value.is_array()) {
      words.push_back(fmt::format("{} {}", word, value.is_string() ? value.get<std::string>() : value.dump()));
    } else if (value.is_number_integer() && value != 0 && (value != 1 || word == "micro_batch" || word == "zero")) {
      words.push_back(fmt::format("{} {}", word, value.get<std::int64_t>()));
    }
  }
  return words.empty() ? "one rank" : fmt::format("{}", fmt::join(words, ", "));
}

SearchFigures search_figures(const std::string& text, const std::string& origin) {
  const json document = parse(text, origin);
  SearchFigures s;
  if (const auto best = plan_figures(part(document, "best"))) {
    s.plans.push_back(*best);
    s.plans.back().is_best = true;
  }
  const auto is_new = [&](const PlanFigures& plan) {
    return std::none_of(s.plans.begin(), s.plans.end(), [&](const PlanFigures& p) {
      return p.strategy == plan.strategy && p.step_seconds == plan.step_seconds;
    });
  };
  for (const json& item : part(document, "pareto")) {
    if (const auto plan = plan_figures(item); plan && is_new(*plan)) {
      s.plans.push_back(*plan);
    }
  }
  for (const json& item : part(document, "within_memory")) {
    if (const auto plan = plan_figures(part(item, "plan")); plan && is_new(*plan)) {
      s.plans.push_back(*plan);
    }
  }
  keep_unbeaten(s.plans);
  for (const json& item : part(document, "runners_up")) {
    if (const auto plan = plan_figures(item); plan && is_new(*plan)) {
      s.runners_up.push_back(*plan);
    }
  }
  for (const json& cell : part(document, "grid")) {
    s.grid.push_back({count_at(cell, "tp"), count_at(cell, "pp"), number_at(cell, "step_time_s"),
                      number_at(cell, "at_least_s"), true_at(cell, "fits"), text_at(cell, "reason")});
  }
  for (const json& point : part(document, "scaling")) {
    const json& strategy = part(part(point, "job"), "strategy");
    s.scaling.push_back({count_at(point, "nodes"), number_at(point, "step_time_s"), number_at(point, "tokens_per_s"),
                         number_at(point, "efficiency"), number_at(point, "days"), number_at(point, "device_hours"),
                         number_at(point, "money"), true_at(point, "knee"),
                         strategy.is_object() ? strategy_words(strategy) : ""});
  }
  for (const auto& [reason, n] : part(document, "rejected").items()) {
    if (n.is_number_integer()) {
      s.rejected.emplace_back(reason, n.get<std::int64_t>());
    }
  }
  std::stable_sort(s.rejected.begin(), s.rejected.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  s.judged = count_at(document, "judged");
  s.simulated = count_at(document, "simulated");
  s.proved = true_at(part(document, "bound"), "proved_optimal");
  s.best_possible_seconds = number_at(part(document, "bound"), "best_possible_step_time_s");
  return s;
}

void set_money(SearchFigures& s, double of_best) {
  if (s.plans.empty()) {
    return;
  }
  const double of_a_second = of_best / s.plans.front().step_seconds;
  for (std::vector<PlanFigures>* plans : {&s.plans, &s.runners_up}) {
    for (PlanFigures& p : *plans) {
      p.money = of_a_second * p.step_seconds;
    }
  }
}

std::string best_job(const std::string& text, const std::string& origin) {
  const json document = parse(text, origin);
  const json& job = part(part(document, "best"), "job");
  return job.is_object() ? job.dump(2) : "";
}

nlohmann::ordered_json to_json(const SearchFigures& s) {
  using Json = nlohmann::ordered_json;
  const auto optional = [](const std::optional<double>& value) { return value ? number(*value) : Json(nullptr); };
  const auto list = [&](const std::vector<PlanFigures>& plans) {
    Json all = Json::array();
    for (const PlanFigures& p : plans) {
      all.push_back({{"strategy", p.strategy},
                     {"step_time_s", number(p.step_seconds)},
                     {"tokens_per_s", number(p.tokens_per_second)},
                     {"memory_bytes", number(p.memory_bytes)},
                     {"money", optional(p.money)},
                     {"best", p.is_best}});
    }
    return all;
  };
  Json grid = Json::array(), scaling = Json::array(), rejected = Json::object();
  for (const GridCell& c : s.grid) {
    grid.push_back({{"tp", c.tp},
                    {"pp", c.pp},
                    {"step_time_s", optional(c.step_seconds)},
                    {"at_least_s", optional(c.at_least_seconds)},
                    {"fits", c.fits},
                    {"reason", c.reason}});
  }
  for (const ScalingPoint& p : s.scaling) {
    scaling.push_back({{"nodes", p.nodes},
                       {"step_time_s", optional(p.step_seconds)},
                       {"tokens_per_s", optional(p.tokens_per_second)},
                       {"efficiency", optional(p.efficiency)},
                       {"days", optional(p.days)},
                       {"device_hours", optional(p.device_hours)},
                       {"money", optional(p.money)},
                       {"knee", p.is_knee},
                       {"strategy", p.strategy}});
  }
  for (const auto& [reason, n] : s.rejected) {
    rejected[reason] = n;
  }
  return {{"plans", list(s.plans)},
          {"runners_up", list(s.runners_up)},
          {"grid", std::move(grid)},
          {"scaling", std::move(scaling)},
          {"rejected", std::move(rejected)},
          {"judged", s.judged},
          {"simulated", s.simulated},
          {"proved_optimal", s.proved},
          {"best_possible_step_time_s", optional(s.best_possible_seconds)}};
}

}  // namespace foretrain::reports
