#include "sim/least_time.h"

#include <algorithm>

namespace foretrain::sim {
namespace {

// The end of what was over before, or may have been.
constexpr Time kBefore{-1};

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

LeastTime::LeastTime(const RoleModel& model)
    : model_(model), streams_(model.role->streams.size(), kBefore), events_(index(model.event_copies), kBefore) {}

void LeastTime::begin(bool weights) {
  weights_ = weights;
  std::fill(streams_.begin(), streams_.end(), kBefore);
  for (const std::int32_t copy : touched_) {
    events_[index(copy)] = kBefore;
  }
  touched_.clear();
  extent_ = busy_ = busy_weights_ = Time{};
}

void LeastTime::add(plan::BlockId block, plan::Binding at) {
  const std::vector<OpModel>& ops = model_.blocks[index(block)];
  ops_.resize(std::max(ops_.size(), ops.size()));
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const OpModel& op = ops[i];
    const bool is_weight = op.op->phase == plan::Phase::backward_weight;
    if (is_weight && !weights_) {
      ops_[i] = kBefore;
      continue;
    }
    Time start = streams_[index(op.stream)];
    for (const std::uint16_t position : op.after) {
      start = std::max(start, ops_[position]);
    }
    for (const EventRef& e : op.waits) {
      start = std::max(start, events_[index(e.copy(at))]);
    }
    if (op.stream == plan::kCompute) {
      start = std::max(start, Time{});
      busy_ += op.duration;
      busy_weights_ += is_weight ? op.duration : Time{};
    }
    const Time end = start < Time{} ? kBefore : start + op.duration;
    streams_[index(op.stream)] = ops_[i] = end;
    for (const EventRef& e : op.records) {
      const std::int32_t copy = e.copy(at);
      events_[index(copy)] = end;
      touched_.push_back(copy);
    }
  }
  extent_ = std::max(extent_, streams_[plan::kCompute]);
}

}  // namespace foretrain::sim
