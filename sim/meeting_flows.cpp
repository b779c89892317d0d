#include "sim/meeting_flows.h"

namespace foretrain::sim {

MeetingFlows::MeetingFlows(const FlowPlan& plan) : plan_(plan), network_(plan.capacities) {
  for (const FlowPlan::Background& b : plan.background) {
    FlowSpec flow;
    flow.route = b.route;
    flow.cap = b.cap;
    flow.is_endless = true;
    network_.start(flow, Time{});
  }
}

void MeetingFlows::start(std::int32_t id, const AloneFlow& flow, std::int32_t route, Time now) {
  FlowSpec spec;
  spec.route = plan_.routes[static_cast<std::size_t>(route)];
  spec.bytes = flow.bytes;
  spec.latency = flow.latency;
  spec.cap = flow.cap;
  const auto index = static_cast<std::size_t>(network_.start(spec, now));
  if (index >= id_of_.size()) {
    id_of_.resize(index + 1);
  }
  id_of_[index] = id;
  if (static_cast<std::size_t>(id) >= flow_of_.size()) {
    flow_of_.resize(static_cast<std::size_t>(id) + 1);
  }
  flow_of_[static_cast<std::size_t>(id)] = {static_cast<FlowIndex>(index), flow.cap};
}

void MeetingFlows::set_speed(std::int32_t id, std::int64_t speed, Time now) {
  const UnderWay& of = flow_of_[static_cast<std::size_t>(id)];
  network_.set_cap(of.flow, slowed(of.cap, speed), now);
}

const std::vector<std::int32_t>& MeetingFlows::advance(Time now) {
  ended_.clear();
  for (const FlowIndex flow : network_.advance(now)) {
    ended_.push_back(id_of_[static_cast<std::size_t>(flow)]);
  }
  return ended_;
}

}  // namespace foretrain::sim
