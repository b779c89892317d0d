#include "sim/flow_times.h"

#include <algorithm>
#include <tuple>

namespace foretrain::sim {
namespace {

constexpr Time kUnknown{-1};

}  // namespace

Time FlowTimes::begin(Id id, Time start, const AloneFlow& flow, std::int32_t route, Time alone) {
  if (id.walk >= durations_.size()) {
    durations_.resize(id.walk + 1);
  }
  std::vector<Time>& known = durations_[id.walk];
  if (id.ordinal >= known.size()) {
    known.resize(id.ordinal + 1, kUnknown);
  }
  const Time used = known[id.ordinal] == kUnknown ? alone : known[id.ordinal];
  flows_.push_back({id, start, used, flow, route});
  return used;
}

bool FlowTimes::settle() {
  std::sort(flows_.begin(), flows_.end(),
            [](const Flow& x, const Flow& y) { return std::tie(x.start, x.id) < std::tie(y.start, y.id); });
  MeetingFlows network(plan_);
  bool is_right = true;
  for (std::size_t next = 0; next < flows_.size() || !network.empty();) {
    if (!network.empty() && (next == flows_.size() || network.next() <= flows_[next].start)) {
      const Time now = network.next();
      for (const std::int32_t ended : network.advance(now)) {
        const Flow& flow = flows_[static_cast<std::size_t>(ended)];
        const Time took = now - flow.start;
        is_right = is_right && took == flow.used;
        durations_[flow.id.walk][flow.id.ordinal] = took;
      }
      continue;
    }
    const Flow& flow = flows_[next];
    network.start(static_cast<std::int32_t>(next), flow.flow, flow.route, flow.start);
    ++next;
  }
  flows_.clear();
  return is_right;
}

}  // namespace foretrain::sim
