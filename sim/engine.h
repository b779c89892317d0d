// The event-driven simulator: every op is an event. The reference for sim/fold.h.
//
// Each class of ranks is one actor with in-order streams; each stream waits at its head. Time
// advances instant by instant: all completions of an instant are applied, then everything that takes no time is done
// until nothing more follows, then free devices choose, then the speeds of what runs are set. No result depends on the
// order inside an instant.
//
// Devices with exclusive streams (a CPU core) run one op of a rank at a time. At an op's end communication that all
// members have reached comes first, the one that became startable first; then the ready op that is first in the
// program. Each member of a collective does its own share when its core is free, and the receiver of a message copies
// it; the op is complete on all members with the last share. Nobody waits on its core for others.
// What is carried between hosts takes no core.
//
// Meetings that share links are flows: each ends when the network (sim/flow_network.h) has carried it, and what of its
// time is left changes with every other one that comes or goes. Their instants are merged with the others.
//
// Ranks that share a machine slow each other down: an op's speed is a function of how many ranks are at work, set anew
// whenever that number changes; remaining work is an integer, so that no rounding accumulates. Likewise compute and
// communication that share a device (sim/device_share.h): their speeds are set anew when either starts or ends there.
#pragma once

#include <vector>

#include "plan/breakdown.h"
#include "plan/timeline.h"
#include "sim/device_share.h"
#include "sim/disturbance.h"
#include "sim/flow_plan.h"
#include "sim/rank_classes.h"
#include "sim/role_model.h"

namespace foretrain::sim {

struct StepTimes {
  std::vector<Time> step_ends;
  std::vector<plan::Breakdown> breakdown;  // by class, of the last step
  std::int64_t ops = 0;                    // that were events
  std::int64_t walked = 0;                 // that were walked, and not part of a call that was like another
  std::int32_t rounds_left_out = 0;        // of each step, as they are like others (sim/rounds.h)
};

struct EventOptions {
  int steps = 2;
  bool exclusive_streams = false;
  Jitter jitter;
  const FlowPlan& flows;           // which meetings share links
  ShareSpeeds* sharing = nullptr;  // null: compute and communication do not slow each other
};

// `sink` may be null. Throws InternalError naming the waiting ops when the graph deadlocks.
StepTimes run_events(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                     const std::vector<RankClass>& classes, const EventOptions& options, plan::SpanSink* sink);

}  // namespace foretrain::sim
