// What latency costs, found by changing it: a network whose collectives and messages take `factor` times as long for
// nothing, and as long as before for their bytes.
#pragma once

#include <memory>

#include "sim/network.h"

namespace foretrain::sim {

// factor 1: `network` itself.
std::unique_ptr<NetworkModel> scaled_latency(std::unique_ptr<NetworkModel> network, double factor);

}  // namespace foretrain::sim
