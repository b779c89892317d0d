// SimGrid beside our flows, where its library was present at build time (simgrid.cpp, else no_simgrid.cpp).
#pragma once

#include <optional>

#include "tests/support/flow_traffic.h"

namespace foretrain::sim {

// all: SimGrid brings every flow up to date at every instant. lazy: its default, fast; where messages have a latency,
// its 3.32 then ends some of them up to a few per cent off its own results under `all`.
enum class SimgridUpdate { all, lazy };

// Runs the traffic in SimGrid: model CM02, all corrections off, so that rates are max-min fair and a message takes its
// latency, then its bytes at those rates. A link that spreads flows s ways has s times the capacity there, which is the
// same system. In a process of its own, as SimGrid's engine can be had once per process; wall_s is of Engine::run and
// the starts. None where SimGrid is absent. A run that is not done `patience_s` seconds after its first start is given
// up: wall_s is then the patience, and there are no ends. Requires: every route begins with a link of its sender alone.
std::optional<FlowRun> run_simgrid(const Platform& platform, Traffic& traffic, SimgridUpdate update,
                                   int patience_s = 3600);

}  // namespace foretrain::sim
