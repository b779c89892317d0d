// What a report shows of a search: read from the document foretrain.search/1 that `search --json` prints.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace foretrain::reports {

struct PlanFigures {
  std::string strategy;  // "dp 16, tp 8, pp 8, micro_batch 1, ..."
  double step_seconds = 0, tokens_per_second = 0, memory_bytes = 0;
  std::optional<double> money;  // of the whole run, where a price is known
  bool is_best = false;
};

// Of all plans with these two extents, the best.
struct GridCell {
  std::int64_t tp = 1, pp = 1;
  std::optional<double> step_seconds;      // none fits, or a bound judged it
  std::optional<double> at_least_seconds;  // no plan there is faster
  bool fits = false;
  std::string reason;
};

// Of one size of the cluster.
struct ScalingPoint {
  std::int64_t nodes = 0;
  std::optional<double> step_seconds, tokens_per_second, efficiency;  // none fits
  std::optional<double> days, device_hours, money;                    // of a run, where one was asked for
  bool is_knee = false;
  std::string strategy;
};

struct SearchFigures {
  std::vector<PlanFigures> plans;       // the best one first, then the Pareto set, those within less memory too
  std::vector<PlanFigures> runners_up;  // the next in speed
  std::vector<GridCell> grid;
  std::vector<ScalingPoint> scaling;
  std::vector<std::pair<std::string, std::int64_t>> rejected;  // most first
  std::int64_t judged = 0, simulated = 0;
  bool proved = false;
  std::optional<double> best_possible_seconds;
};

// "dp 16, tp 8, pp 8, micro_batch 1, ..." of a job file's strategy: extents of one, and words that say "no", are left
// out.
std::string strategy_words(const nlohmann::json& strategy);

// Throws InputError for text that is no such document; keys beyond those that are shown are passed over.
SearchFigures search_figures(const std::string& text, const std::string& origin);
// Money of each plan, if the best plan's run costs so much: on the same devices it goes with the step time.
void set_money(SearchFigures& s, double of_best);
// The job file of its best plan; "" where nothing fits.
std::string best_job(const std::string& text, const std::string& origin);

nlohmann::ordered_json to_json(const SearchFigures& s);

}  // namespace foretrain::reports
