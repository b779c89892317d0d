// Meetings under way as flows: FlowNetwork for the engine and the folded walk, by the meetings' own numbers, with the
// traffic of others beside them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sim/flow_network.h"
#include "sim/flow_plan.h"

namespace foretrain::sim {

class MeetingFlows {
 public:
  explicit MeetingFlows(const FlowPlan& plan);  // which must outlive it

  // Requires: everything before `now` has been taken (advance).
  void start(std::int32_t id, const AloneFlow& flow, std::int32_t route, Time now);
  // A cap at that fraction of kFullSpeed.
  static Rate slowed(Rate cap, std::int64_t speed) {
    return std::max<Rate>(1, static_cast<Rate>(static_cast<Wide>(cap) * speed / kFullSpeed));
  }
  // Its cap is that fraction of kFullSpeed of its own from now on; its latency is as long as ever. Requires: under way.
  void set_speed(std::int32_t id, std::int64_t speed, Time now);
  bool empty() const { return network_.empty(); }
  Time next() { return network_.next(); }  // requires: not empty
  // Those that end then. Requires: now <= next().
  const std::vector<std::int32_t>& advance(Time now);

 private:
  const FlowPlan& plan_;
  FlowNetwork network_;
  struct UnderWay {
    FlowIndex flow = -1;
    Rate cap = 0;
  };
  std::vector<std::int32_t> id_of_;  // by flow
  std::vector<UnderWay> flow_of_;    // by id
  std::vector<std::int32_t> ended_;
};

}  // namespace foretrain::sim
