// Curves through measured points, and what a profile's sharing table says. Used by the measured models.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "topologies/profile.h"

namespace foretrain::sim {

// y over x through measured points, straight lines in log-log space. Below the first point y stays, beyond the last it
// grows with x: a small op costs what the smallest did, a large one runs at the rate of the largest.
class Curve {
 public:
  void add(double x, double y);  // x, y > 0; several y of one x: their mean counts
  bool empty() const { return points_.empty(); }
  double at(double x) const;  // Requires: not empty

 private:
  std::vector<std::pair<double, double>> points_;  // ascending x
  std::vector<int> counts_;
};

// By which factor work of a kind ("matmul", "memory") that touches `bytes` slows while `active` ranks compute. Between
// the sizes and numbers of ranks of the table it is interpolated (log of bytes, number); beyond its ranks they
// time-share. Without samples the cores are time-shared and nothing else.
double sharing_slowdown(const topologies::Measured& measured, std::string_view kind, double bytes, std::int64_t active);

}  // namespace foretrain::sim
