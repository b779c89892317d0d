#include "sim/curve.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace foretrain::sim {
namespace {

// y between two points, straight in the logarithm of x.
double between(double x, double x0, double y0, double x1, double y1) {
  const double t = std::log(x / x0) / std::log(x1 / x0);
  return y0 + t * (y1 - y0);
}

// The factor at a number of ranks that the table has.
double slowdown_of(const std::map<std::int64_t, double>& by_bytes, double bytes) {
  const auto above = by_bytes.lower_bound(static_cast<std::int64_t>(bytes));
  if (above == by_bytes.begin()) {
    return above->second;
  }
  const auto below = std::prev(above);
  if (above == by_bytes.end()) {
    return below->second;
  }
  return between(bytes, static_cast<double>(below->first), below->second, static_cast<double>(above->first),
                 above->second);
}

}  // namespace

void Curve::add(double x, double y) {
  const auto at =
      std::lower_bound(points_.begin(), points_.end(), x, [](const auto& p, double v) { return p.first < v; });
  const auto index = static_cast<std::size_t>(at - points_.begin());
  if (at != points_.end() && at->first == x) {
    const int n = ++counts_[index];
    points_[index].second += (y - points_[index].second) / n;
    return;
  }
  points_.insert(at, {x, y});
  counts_.insert(counts_.begin() + static_cast<std::ptrdiff_t>(index), 1);
}

double Curve::at(double x) const {
  if (x <= points_.front().first) {
    return points_.front().second;
  }
  if (x >= points_.back().first) {
    return points_.back().second * x / points_.back().first;
  }
  const auto above =
      std::upper_bound(points_.begin(), points_.end(), x, [](double v, const auto& p) { return v < p.first; });
  const auto below = std::prev(above);
  return std::exp(between(x, below->first, std::log(below->second), above->first, std::log(above->second)));
}

double sharing_slowdown(const topologies::Measured& measured, std::string_view kind, double bytes,
                        std::int64_t active) {
  std::map<std::int64_t, std::map<std::int64_t, double>> table;  // active -> bytes -> factor
  for (const topologies::SharingSample& s : measured.sharing) {
    if (s.kind == kind) {
      table[s.active][s.bytes] = s.slowdown;
    }
  }
  const auto n = static_cast<double>(active);
  if (table.empty()) {
    return std::max(1.0, n / std::max(1, measured.cores));
  }
  const auto above = table.lower_bound(active);
  if (above == table.end()) {
    const auto& [most, by_bytes] = *std::prev(above);
    return slowdown_of(by_bytes, bytes) * n / static_cast<double>(most);
  }
  const double upper = slowdown_of(above->second, bytes);
  if (above->first == active || above == table.begin()) {
    return above->first == active ? upper : 1.0;
  }
  const auto& [fewer, by_bytes] = *std::prev(above);
  const double lower = slowdown_of(by_bytes, bytes);
  return lower + (upper - lower) * static_cast<double>(active - fewer) / static_cast<double>(above->first - fewer);
}

}  // namespace foretrain::sim
