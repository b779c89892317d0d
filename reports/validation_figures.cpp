#include "reports/validation_figures.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace foretrain::reports {

namespace {

template <class Condition>
ValidationRows filter(const ValidationRows& rows, Condition condition) {
  ValidationRows result;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(result), condition);
  return result;
}

bool is_timed(const ValidationRow* r) {
  return r->kind == RowKind::step_time;
}
bool is_used_time(const ValidationRow* r) {
  return is_timed(r) && !r->skipped;
}

std::vector<ValidationPart> groups_of(const ValidationRows& rows) {
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

// `error_of`: a row's error, or nothing where it has none.
template <class Error>
GroupFigures group_figures(const ValidationPart& group, Error error_of) {
  GroupFigures g;
  g.group = group.title;
  g.rows = static_cast<int>(group.rows.size());
  g.fitted = std::any_of(group.rows.begin(), group.rows.end(), [](const ValidationRow* r) { return r->fitted; });
  std::vector<double> used, exact;
  for (const ValidationRow* r : group.rows) {
    if (!r->system.empty() && std::find(g.systems.begin(), g.systems.end(), r->system) == g.systems.end()) {
      g.systems.push_back(r->system);
    }
    if (const std::optional<double> error = error_of(*r)) {
      used.push_back(*error);
      if (r->exact) {
        exact.push_back(*error);
      }
    }
  }
  g.used = error_figures(used);
  g.exact = error_figures(exact);
  return g;
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

ErrorFigures error_figures(const std::vector<double>& with_sign) {
  ErrorFigures f;
  f.rows = static_cast<int>(with_sign.size());
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
  f.mean = std::accumulate(absolute.begin(), absolute.end(), 0.0) / f.rows;
  f.p90 = absolute[static_cast<std::size_t>(std::ceil(0.9 * f.rows)) - 1];
  f.worst = absolute.back();
  return f;
}

std::vector<GroupFigures> time_figures(const ValidationRows& rows) {
  std::vector<GroupFigures> result;
  for (const ValidationPart& group : groups_of(filter(rows, is_timed))) {
    result.push_back(group_figures(
        group, [](const ValidationRow& r) { return r.skipped ? std::nullopt : std::optional(r.error()); }));
  }
  return result;
}

std::vector<GroupFigures> memory_figures(const ValidationRows& rows) {
  std::vector<GroupFigures> result;
  for (const ValidationPart& group : groups_of(filter(rows, [](const auto* r) { return r->measured_memory; }))) {
    result.push_back(group_figures(group, [](const ValidationRow& r) {
      return r.predicted_memory ? std::optional(*r.predicted_memory / *r.measured_memory - 1) : std::nullopt;
    }));
  }
  return result;
}

AcrossGroups across_groups(const std::vector<GroupFigures>& groups) {
  AcrossGroups a;
  std::vector<double> medians, p90s;
  for (const GroupFigures& g : groups) {
    if (g.exact.rows == 0) {
      continue;
    }
    if (g.fitted) {
      a.fitted.push_back(g.group);
    } else {
      medians.push_back(g.exact.median);
      p90s.push_back(g.exact.p90);
    }
    const bool shared = std::any_of(groups.begin(), groups.end(), [&](const GroupFigures& other) {
      return other.group != g.group && other.used.rows > 0 &&
             std::find_first_of(g.systems.begin(), g.systems.end(), other.systems.begin(), other.systems.end()) !=
                 g.systems.end();
    });
    if (!shared) {
      a.alone.push_back(g.group);
    } else if (std::abs(g.exact.bias) > kBiasAllowed) {
      a.biased.push_back(g.group);
    }
  }
  a.groups = static_cast<int>(medians.size());
  if (!medians.empty()) {
    a.median = median(medians);
    a.p90 = median(p90s);
  }
  return a;
}

std::vector<RankingFigures> ranking_figures(const ValidationRows& rows) {
  std::vector<RankingFigures> result;
  for (const ValidationPart& group : groups_of(filter(rows, is_used_time))) {
    if (std::ssize(group.rows) < kPlansToRank) {
      continue;
    }
    std::vector<double> predicted, measured;
    for (const ValidationRow* r : group.rows) {
      const double tokens = r->tokens / static_cast<double>(r->ranks);
      predicted.push_back(tokens / *r->predicted);
      measured.push_back(tokens / *r->measured);
    }
    result.push_back({group.title, static_cast<int>(group.rows.size()), spearman(predicted, measured),
                      best_plan_losses(group.rows)});
  }
  return result;
}

std::vector<BandFigures> band_figures(const ValidationRows& rows) {
  std::vector<BandFigures> result;
  for (const ValidationPart& group : groups_of(filter(rows, [](const auto* r) { return is_used_time(r) && r->low; }))) {
    int inside = 0;
    std::vector<double> widths;
    for (const ValidationRow* r : group.rows) {
      inside += *r->low <= *r->measured && *r->measured <= *r->high ? 1 : 0;
      widths.push_back((*r->high - *r->low) / *r->predicted);
    }
    const int runs = static_cast<int>(group.rows.size());
    result.push_back({group.title, runs, static_cast<double>(inside) / runs, median(widths)});
  }
  return result;
}

VerdictFigures verdict_figures(const ValidationRows& rows) {
  VerdictFigures v;
  for (const ValidationRow* r : rows) {
    if (r->fits && r->kind == RowKind::verdict) {
      ++v.out_of_memory;
      v.refused += *r->fits ? 0 : 1;
    } else if (r->fits && is_timed(r)) {
      ++v.ran;
      v.ran_refused += *r->fits ? 0 : 1;
    }
  }
  return v;
}

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

std::vector<double> best_plan_losses(const ValidationRows& rows) {
  constexpr std::size_t kFewest = 3;
  std::vector<std::string> order;
  std::map<std::string, ValidationRows> workloads;
  for (const ValidationRow* r : rows) {
    if (is_used_time(r)) {
      ValidationRows& plans = workloads[r->group + "\n" + r->workload];
      if (plans.empty()) {
        order.push_back(r->group + "\n" + r->workload);
      }
      plans.push_back(r);
    }
  }
  std::vector<double> losses;
  for (const std::string& workload : order) {
    const ValidationRows& plans = workloads[workload];
    std::map<double, std::vector<double>> measured;  // by forecast: runs of one plan
    for (const ValidationRow* plan : plans) {
      measured[*plan->predicted].push_back(*plan->measured);
    }
    if (measured.size() < kFewest) {
      continue;
    }
    double best = INFINITY;
    for (const auto& [predicted, runs] : measured) {
      best = std::min(best, median(runs));
    }
    losses.push_back(median(measured.begin()->second) / best - 1);
  }
  return losses;
}

}  // namespace foretrain::reports
