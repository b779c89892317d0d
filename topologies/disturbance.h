// What is not as it should be: slow devices, degraded nodes and links, traffic of others, jitter. In forecasts; ranks
// of this machine can be held to the speed of slow devices, and nothing else.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/units.h"

namespace foretrain::topologies {

// Devices (or nodes) first to last, by number, run at `speed` of what the model says.
struct SpeedRange {
  std::int64_t first = 0, last = 0;
  double speed = 1;
};

// The links of one class (as `list topologies` names them) on the way from one device to another run at `speed`.
struct SlowLink {
  std::int64_t from = 0, to = 0;
  std::string link_class;
  double speed = 1;
};

// Somebody else's flow between two devices, without an end: as much of `bandwidth` as the links leave it.
struct BackgroundFlow {
  std::int64_t from = 0, to = 0;
  Bandwidth bandwidth;
};

struct Disturbance {
  std::vector<SpeedRange> devices;  // compute; a slow device, or unequal ones. Where ranges overlap speeds multiply.
  std::vector<SpeedRange> nodes;    // bandwidth of a node's NICs
  std::vector<SlowLink> links;      // where several name a link speeds multiply
  std::vector<BackgroundFlow> background;
  double jitter = 0;      // standard deviation of a compute op's time over its mean
  std::int64_t seed = 0;  // of the jitter

  bool empty() const { return devices.empty() && nodes.empty() && !needs_links() && jitter == 0; }
  // What only a network model that knows of links can see.
  bool needs_links() const { return !links.empty() || !background.empty(); }
};

// Product of the ranges that hold `number`; 1 outside of all.
double speed_of(const std::vector<SpeedRange>& ranges, std::int64_t number);

// {"devices": [{"range": "0-7", "speed": 0.8}], "nodes": [{"range": "3", "speed": 0.5}],
//  "links": [{"from": 0, "to": 9, "class": "adapter up", "speed": 0.5}],
//  "background": [{"from": 0, "to": 9, "bandwidth": "10 GB/s"}], "jitter": 0.01, "seed": 1};
// every key may be absent. Speeds lie in [0.001, 1000], bandwidths as a link may have, jitter in [0, 0.25]. That
// devices, nodes and classes of links exist is for the caller to check.
Disturbance read_disturbance(ObjectReader& reader);
nlohmann::json to_json(const Disturbance& d);

}  // namespace foretrain::topologies
