// How long meetings take as flows, for a walk that runs ahead of time (sim/fold.h): found in rounds.
//
// A round walks the job with the durations of the round before (in the first one: alone), notes when every flow began,
// and lets the network carry the flows that begin then: new durations. A round that changes none has found a
// consistent execution, and there is one only: two of them would have a first instant at which they differ, but what
// happens at an instant follows from what happened before. So it is what sim/engine.h finds, to the picosecond. In
// every round at least the earliest wrong end is set right, for all that decides it lies before it.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/meeting_flows.h"

namespace foretrain::sim {

class FlowTimes {
 public:
  // A meeting: a class that takes part in it, and the number of its meetings that came before in program order.
  struct Id {
    std::size_t walk = 0, ordinal = 0;
    friend auto operator<=>(const Id&, const Id&) = default;
  };

  explicit FlowTimes(const FlowPlan& plan) : plan_(plan) {}  // which must outlive it

  // What this round takes for granted, and notes.
  Time begin(Id id, Time start, const AloneFlow& flow, std::int32_t route, Time alone);
  // Ends the round; true when its durations were right.
  bool settle();

 private:
  struct Flow {
    Id id;
    Time start, used;
    AloneFlow flow;
    std::int32_t route = -1;
  };
  const FlowPlan& plan_;
  std::vector<Flow> flows_;                   // of this round
  std::vector<std::vector<Time>> durations_;  // by id; negative: none yet
};

}  // namespace foretrain::sim
