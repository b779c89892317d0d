// The event-driven simulation without rounds that are like others (sim/rounds.h).
#pragma once

#include <optional>
#include <vector>

#include "sim/engine.h"
#include "sim/rounds.h"

namespace foretrain::sim {

// The result of run_events with all rounds, to the picosecond; nothing where that is not certain. Requires:
// no jitter, no exclusive streams, nothing that is read from storage.
std::optional<StepTimes> run_rounds(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                                    const std::vector<RankClass>& classes, const Rounds& rounds,
                                    const EventOptions& options);

}  // namespace foretrain::sim
