// One function checks any graph, before anything runs.
#pragma once

#include <string>
#include <vector>

#include "plan/graph.h"

namespace foretrain::plan {

// Walks all roles together for two steps (of a graph with instances that do not run in every step, for each kind of
// step after each), untimed, and returns one line per mistake (at most 20), naming role,
// instance, op and buffer. Checks: ids in range; `after` points backwards; groups contain the rank and have the same
// size wherever the key appears; every match key meets exactly its partners with equal elements, dtype and kind, in the
// same order per stream; no deadlock; operands lie inside their buffer (or run over following layers of it) and inside
// the arena; every non-persistent buffer is written before it is read; no two unordered ops (happens-before over
// streams, `after`, events and rendezvous) touch overlapping bytes unless both read; waited events are recorded by
// somebody; puts and takes balance; counts match for all ranks of a group over roles.
std::vector<std::string> validate(const PlanGraph& graph);

}  // namespace foretrain::plan
