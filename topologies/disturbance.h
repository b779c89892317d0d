// What is not as it should be: slow devices, degraded nodes' links, jitter. All of it only in forecasts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "base/json.h"

namespace foretrain::topologies {

// Devices (or nodes) first to last, by number, run at `speed` of what the model says.
struct SpeedRange {
  std::int64_t first = 0, last = 0;
  double speed = 1;
};

struct Disturbance {
  std::vector<SpeedRange> devices;  // compute; a slow device, or unequal ones. Where ranges overlap speeds multiply.
  std::vector<SpeedRange> nodes;    // bandwidth of a node's NICs: a degraded link, or traffic of others on it
  double jitter = 0;                // standard deviation of a compute op's time over its mean
  std::int64_t seed = 0;            // of the jitter

  bool empty() const { return devices.empty() && nodes.empty() && jitter == 0; }
};

// Product of the ranges that hold `number`; 1 outside of all.
double speed_of(const std::vector<SpeedRange>& ranges, std::int64_t number);

// {"devices": [{"range": "0-7", "speed": 0.8}], "nodes": [{"range": "3", "speed": 0.5}], "jitter": 0.01, "seed": 1};
// every key may be absent. Speeds lie in [0.001, 1000], jitter in [0, 0.25]. That the devices exist is for the caller
// to check.
Disturbance read_disturbance(ObjectReader& reader);
nlohmann::json to_json(const Disturbance& d);

}  // namespace foretrain::topologies
