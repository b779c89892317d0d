// The same simulation as sim/engine.h without events, for clusters where classes share nothing but what they meet for:
// then an op's start is the latest end of what it waits for, and each class of ranks can be walked in program order,
// ahead of the others until it needs a meeting that they have not reached. Compute and collectives may slow each other
// (sim/role_walk.h), meetings may share links (sim/flow_times.h).
//
// Block calls that meet no other class are folded: what a call does depends on the ends of the streams and events it
// builds on, relative to the compute stream, and only as far as they come later than the call itself could use them.
// For each such input the call is walked once and then replayed; the communication of its own class that is under way
// is part of the input, but where that is flows. So are calls whose collectives are flows of their own class, as long
// as no other flow holds these back. Rounds of microbatches that are like others are left out (sim/rounds.h).
#pragma once

#include <optional>
#include <vector>

#include "sim/engine.h"
#include "sim/flow_plan.h"
#include "sim/rank_classes.h"
#include "sim/role_model.h"
#include "sim/rounds.h"

namespace foretrain::sim {

struct FoldedSteps {
  std::optional<StepTimes> times;
  bool not_alike = false;  // why not: `rounds` may not be like the others; otherwise more of them help nobody
};

// The result of run_events to the picosecond. Requires: no exclusive streams, no speeds. `rounds`: those to leave out,
// or null; `sharing` may be null. No times where rounds are not alike, when the walk cannot go on although the graph
// may not deadlock (a class's next op needs a meeting that waits for a later op of that class), when the compute stream
// itself meets other classes or shares links, when what is no flow meets other classes and slows compute, or when flows
// ask for so many walks, or calls repeat so little, that more than `most_walked` of the ops would be walked.
FoldedSteps run_folded(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                       const std::vector<RankClass>& classes, const FlowPlan& plan, int steps, const Rounds* rounds,
                       ShareSpeeds* sharing, double most_walked);

}  // namespace foretrain::sim
