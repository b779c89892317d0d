// What a search found: the document foretrain.search/1, and the same for people.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "plan/breakdown.h"
#include "reports/search_figures.h"

namespace foretrain::reports {

struct SearchedPlan {
  std::string job;            // a job file's text
  Time step_time;             // 0: was not simulated
  Bytes memory;               // demanded of the fullest device
  plan::Breakdown breakdown;  // mean over ranks
};

// The fastest that demands no more than `limit`.
struct WithinLimit {
  Bytes limit;
  std::optional<SearchedPlan> best;
  bool proved = false;
};

// Of one size of the cluster.
struct SearchedSize {
  std::int64_t nodes = 0, devices = 0;
  std::optional<SearchedPlan> best;
  bool proved = false;
  double efficiency = 0;  // tokens per second and device, of those of the smallest size with a plan
  bool is_knee = false;
  std::optional<double> days, device_hours, money;  // for the tokens asked for
};

struct Search {
  std::string headline;  // workload and cluster
  double tokens_per_step = 0;
  std::optional<SearchedPlan> best;
  std::string estimate;  // foretrain.estimate/1 of the best; "": nobody asked for it
  std::vector<SearchedPlan> runners_up, pareto;
  std::vector<WithinLimit> within_memory;  // limits descend
  std::vector<GridCell> grid;
  std::string space;       // values by axis, JSON
  std::int64_t plans = 0;  // of the space
  std::int64_t judged = 0, built = 0, simulated = 0;
  std::map<std::string, std::int64_t> rejected;
  Time best_possible;
  bool proved = false, interrupted = false;
  double wall_seconds = 0;
  // Where nothing fits.
  Bytes capacity;
  std::optional<SearchedPlan> nearest_miss;
  std::optional<SearchedSize> smallest_cluster;
  // Of a sweep over sizes; `best` is then the knee's, else the largest size's.
  std::vector<SearchedSize> sizes;
};

nlohmann::ordered_json to_json(const Search& s);
std::string to_text(const Search& s, bool colour);
// Why nothing fits, and what would.
std::string infeasible_message(const Search& s);

}  // namespace foretrain::reports
