// A network that is asked for the same collectives again and again, by many ops of many roles and at each clock: each
// is worked out once.
#pragma once

#include <memory>

#include "sim/network.h"

namespace foretrain::sim {

// Answers as `network` does. For one thread.
std::unique_ptr<NetworkModel> remembered_network(std::unique_ptr<NetworkModel> network);

}  // namespace foretrain::sim
