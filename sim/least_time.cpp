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
    : model_(model),
      streams_(model.role->streams.size(), {kBefore, kBefore}),
      events_(index(model.event_copies), {kBefore, kBefore}) {}

void LeastTime::begin(bool weights) {
  weights_ = weights;
  std::fill(streams_.begin(), streams_.end(), End{kBefore, kBefore});
  for (const std::int32_t copy : touched_) {
    events_[index(copy)] = {kBefore, kBefore};
  }
  touched_.clear();
  extent_ = busy_ = busy_weights_ = waited_ = Time{};
}

void LeastTime::add(plan::BlockId block, plan::Binding at) {
  const std::vector<OpModel>& ops = model_.blocks[index(block)];
  ops_.resize(std::max(ops_.size(), ops.size()));
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const OpModel& op = ops[i];
    const bool is_weight = op.op->phase == plan::Phase::backward_weight;
    if (is_weight && !weights_) {
      ops_[i] = {kBefore, kBefore};
      continue;
    }
    End start = streams_[index(op.stream)];
    const auto wait = [&](const End& e) { start = e.at > start.at ? e : start; };
    for (const std::uint16_t position : op.after) {
      wait(ops_[position]);
    }
    for (const EventRef& e : op.waits) {
      wait(events_[index(e.copy(at))]);
    }
    End end = start;
    if (op.stream == plan::kCompute) {
      const Time before = streams_[plan::kCompute].at;
      waited_ += before >= Time{} && start.left == before ? start.at - before : Time{};
      end.at = end.left = std::max(start.at, Time{}) + op.duration;
      busy_ += op.duration;
      busy_weights_ += is_weight ? op.duration : Time{};
    } else if (start.at >= Time{}) {
      end.at += op.duration;
    }
    streams_[index(op.stream)] = ops_[i] = end;
    for (const EventRef& e : op.records) {
      const std::int32_t copy = e.copy(at);
      events_[index(copy)] = end;
      touched_.push_back(copy);
    }
  }
  extent_ = std::max(extent_, streams_[plan::kCompute].at);
}

}  // namespace foretrain::sim
