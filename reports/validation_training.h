// What `foretrain validate` says of training runs: errors by group, how well plans are ranked, memory, verdicts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "reports/validation.h"

namespace foretrain::reports {

// "" without rows. All must be of training runs.
std::string training_text(const std::vector<const ValidationRow*>& rows, bool colour);

// Spearman's rank correlation of two equally long lists: Pearson's of their ranks, equal values sharing the mean rank.
// Nothing for fewer than three pairs or a list of equal values.
std::optional<double> spearman(const std::vector<double>& a, const std::vector<double>& b);

// Within each workload with three used plans or more: how much slower the plan forecast fastest was than the fastest
// measured, as a fraction. In the order that workloads first come.
std::vector<double> best_plan_losses(const std::vector<const ValidationRow*>& rows);

}  // namespace foretrain::reports
