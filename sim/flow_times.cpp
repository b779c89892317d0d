#include "sim/flow_times.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace foretrain::sim {
namespace {

constexpr Time kUnknown{-1};

}  // namespace

std::optional<Time> FlowTimes::duration(Id id) const {
  if (id.walk >= durations_.size() || id.ordinal >= durations_[id.walk].size() ||
      durations_[id.walk][id.ordinal] == kUnknown) {
    return std::nullopt;
  }
  return durations_[id.walk][id.ordinal];
}

std::size_t FlowTimes::begin(Id id, Time start, const AloneFlow& flow, std::int32_t route, Time used) {
  if (id.walk >= durations_.size()) {
    durations_.resize(id.walk + 1);
  }
  if (id.ordinal >= durations_[id.walk].size()) {
    durations_[id.walk].resize(id.ordinal + 1, kUnknown);
  }
  flows_.push_back({id, start, used, flow, route, 0, false});
  return flows_.size() - 1;
}

void FlowTimes::slow_down(std::size_t number, Time from, Time to) {
  changes_.push_back({from, number, 1});
  changes_.push_back({to, number, -1});
}

bool FlowTimes::settle() {
  // By number flows stay as they are; changes name them.
  std::vector<std::size_t> by_start(flows_.size());
  std::iota(by_start.begin(), by_start.end(), std::size_t{0});
  std::sort(by_start.begin(), by_start.end(), [&](std::size_t x, std::size_t y) {
    return std::tie(flows_[x].start, flows_[x].id) < std::tie(flows_[y].start, flows_[y].id);
  });
  std::sort(changes_.begin(), changes_.end(), [](const Change& x, const Change& y) {
    return std::tie(x.at, x.number, y.by) < std::tie(y.at, y.number, x.by);
  });
  MeetingFlows network(plan_);
  bool is_right = true;
  auto start = by_start.begin();
  auto change = changes_.begin();
  const auto set_speed = [&](std::size_t number, Time now) {
    const Flow& flow = flows_[number];
    if (flow.is_under_way) {
      network.set_speed(static_cast<std::int32_t>(number), flow.computing > 0 ? beside_ : kFullSpeed, now);
    }
  };
  while (start != by_start.end() || !network.empty()) {
    Time now = start == by_start.end() ? kNever : flows_[*start].start;
    now = network.empty() ? now : std::min(now, network.next());
    now = change == changes_.end() ? now : std::min(now, change->at);
    if (!network.empty() && network.next() == now) {
      for (const std::int32_t ended : network.advance(now)) {
        Flow& flow = flows_[static_cast<std::size_t>(ended)];
        const Time took = now - flow.start;
        Time& known = durations_[flow.id.walk][flow.id.ordinal];
        if (took != flow.used || known != kUnknown) {
          is_right = is_right && took == flow.used;
          known = took;
        }
        flow.is_under_way = false;
      }
    }
    for (; start != by_start.end() && flows_[*start].start == now; ++start) {
      Flow& flow = flows_[*start];
      network.start(static_cast<std::int32_t>(*start), flow.flow, flow.route, now);
      flow.is_under_way = true;
    }
    for (; change != changes_.end() && change->at == now; ++change) {
      flows_[change->number].computing += change->by;
      set_speed(change->number, now);
    }
  }
  flows_.clear();
  changes_.clear();
  return is_right;
}

}  // namespace foretrain::sim
