// The figures by which forecasts of training runs are judged: errors of step time and memory by group and over groups,
// how well plans are ranked, verdicts on memory. Groups count alike over groups, whatever their size.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "reports/validation.h"

namespace foretrain::reports {

using ValidationRows = std::vector<const ValidationRow*>;

// Of signed errors: of their size the mean, median, 90th percentile (nearest rank) and worst; bias is the median with
// sign. Not numbers where there is none.
struct ErrorFigures {
  int rows = 0;
  double mean = NAN, median = NAN, p90 = NAN, bias = NAN, worst = NAN;
};
ErrorFigures error_figures(const std::vector<double>& with_sign);

struct GroupFigures {
  std::string group;
  std::vector<std::string> systems;  // kinds of device
  int rows = 0;                      // with the skipped ones
  bool fitted = false;               // a constant was fitted to it: it has a part in its own forecast
  ErrorFigures used, exact;          // exact: rows whose plan is stated whole, without caveat
};
// Step times, by group in the order that groups first come.
std::vector<GroupFigures> time_figures(const ValidationRows& rows);
// Memory of the fullest device, of groups that measured some.
std::vector<GroupFigures> memory_figures(const ValidationRows& rows);

// Medians over groups of what each has on its exact rows; a group without such rows does not count, nor one fitted to.
struct AcrossGroups {
  int groups = 0;
  double median = NAN, p90 = NAN;
  std::vector<std::string> biased;  // groups whose bias is beyond kBiasAllowed, on devices that other groups have too
  std::vector<std::string> alone;   // groups on devices that no other group has
  std::vector<std::string> fitted;
};
constexpr double kBiasAllowed = 0.1;
AcrossGroups across_groups(const std::vector<GroupFigures>& groups);

// Of groups with kPlansToRank used rows or more; fewer are no sweep.
struct RankingFigures {
  std::string group;
  int plans = 0;
  std::optional<double> spearman;  // of tokens per second and device, predicted and measured
  std::vector<double> losses;      // best_plan_losses
};
constexpr int kPlansToRank = 10;
std::vector<RankingFigures> ranking_figures(const ValidationRows& rows);

// Share of a group's runs that lie in their error bands, and the width of the middle one over its forecast.
struct BandFigures {
  std::string group;
  int runs = 0;
  double covered = NAN, width = NAN;
};
std::vector<BandFigures> band_figures(const ValidationRows& rows);

// Plans that ran out of memory and plans that ran, and how many of each are judged not to fit.
struct VerdictFigures {
  int out_of_memory = 0, refused = 0, ran = 0, ran_refused = 0;
};
VerdictFigures verdict_figures(const ValidationRows& rows);

// Spearman's rank correlation of two equally long lists: Pearson's of their ranks, equal values sharing the mean rank.
// Nothing for fewer than three pairs or a list of equal values.
std::optional<double> spearman(const std::vector<double>& a, const std::vector<double>& b);

// Within each workload with three used plans or more: how much slower the plan forecast fastest was than the fastest
// measured, as a fraction. Runs with the same forecast are runs of one plan, which took their median. In the order that
// workloads first come.
std::vector<double> best_plan_losses(const ValidationRows& rows);

}  // namespace foretrain::reports
