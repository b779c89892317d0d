// How long meetings take as flows, for a walk that runs ahead of time (sim/fold.h): found in rounds.
//
// A round walks the job with the durations of the round before (in the first one: alone), notes when every flow began,
// and lets the network carry the flows that begin then: new durations. A round that changes none has found a
// consistent execution, and there is one only: two of them would have a first instant at which they differ, but what
// happens at an instant follows from what happened before. So it is what sim/engine.h finds, to the picosecond. In
// every round at least the earliest wrong end is set right, for all that decides it lies before it. Where a flow slows
// down beside compute, the walk notes when that was; as long as no other flow was seen to hold it back, the walk also
// finds its end, which compute beside it and it decide together.
#pragma once

#include <cstdint>
#include <optional>
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

  // The plan must outlive it. `speed_beside_compute`: of kFullSpeed.
  FlowTimes(const FlowPlan& plan, std::int64_t speed_beside_compute) : plan_(plan), beside_(speed_beside_compute) {}

  // What earlier rounds found; nothing as long as the flow alone was right.
  std::optional<Time> duration(Id id) const;
  // A flow of this round, its number. `used`: the duration that the walk takes for granted; or set_used later.
  std::size_t begin(Id id, Time start, const AloneFlow& flow, std::int32_t route, Time used);
  void set_used(std::size_t number, Time used) { flows_[number].used = used; }
  // One of its devices computes meanwhile. Stretches of several devices may overlap.
  void slow_down(std::size_t number, Time from, Time to);
  // Ends the round; true when its durations were right.
  bool settle();

 private:
  struct Flow {
    Id id;
    Time start, used;
    AloneFlow flow;
    std::int32_t route = -1;
    std::int32_t computing = 0;  // devices
    bool is_under_way = false;
  };
  struct Change {
    Time at;
    std::size_t number = 0;
    int by = 0;  // devices of the flow that compute: one more, or one less
  };

  const FlowPlan& plan_;
  const std::int64_t beside_;
  std::vector<Flow> flows_;  // of this round
  std::vector<Change> changes_;
  std::vector<std::vector<Time>> durations_;  // by id; negative: none yet
};

}  // namespace foretrain::sim
