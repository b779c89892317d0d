#include "sim/activities.h"

#include <algorithm>

#include "sim/role_model.h"

namespace foretrain::sim {

void Activities::start(std::int32_t id, Time now, Time duration, const std::vector<std::int64_t>& speed_by_active,
                       std::int64_t ranks) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= running_.size()) {
    running_.resize(index + 1);
  }
  Running& run = running_[index];
  ++run.generation;
  if (speed_by_active.empty()) {
    queue_.push({now + duration, id, run.generation});
    return;
  }
  run.ranks = ranks;
  run.remaining = static_cast<Work>(duration.value) * kFullSpeed;
  run.since = now;
  run.speed = 0;
  run.speed_by_active = &speed_by_active;
  active_ranks_ += ranks;
  sharing_.push_back(id);
  has_changed_ = true;
}

void Activities::set_speeds(Time now) {
  if (!has_changed_) {
    return;
  }
  has_changed_ = false;
  for (const std::int32_t id : sharing_) {
    Running& run = running_[static_cast<std::size_t>(id)];
    const std::int64_t speed = (*run.speed_by_active)[static_cast<std::size_t>(active_ranks_)];
    if (speed == run.speed) {
      continue;
    }
    run.remaining -= static_cast<Work>((now - run.since).value) * run.speed;
    run.since = now;
    run.speed = speed;
    const auto left = static_cast<std::int64_t>((run.remaining + speed - 1) / speed);
    queue_.push({now + Time{std::max<std::int64_t>(left, 0)}, id, ++run.generation});
  }
}

void Activities::drop_void_events() {
  while (!queue_.empty() && running_[static_cast<std::size_t>(queue_.top().id)].generation != queue_.top().generation) {
    queue_.pop();
  }
}

bool Activities::empty() {
  drop_void_events();
  return queue_.empty();
}

Time Activities::next() {
  drop_void_events();
  return queue_.top().at;
}

std::int32_t Activities::pop() {
  drop_void_events();
  const std::int32_t id = queue_.pop().id;
  Running& run = running_[static_cast<std::size_t>(id)];
  ++run.generation;
  if (run.speed_by_active != nullptr) {
    run.speed_by_active = nullptr;
    active_ranks_ -= run.ranks;
    sharing_.erase(std::find(sharing_.begin(), sharing_.end(), id));
    has_changed_ = true;
  }
  return id;
}

}  // namespace foretrain::sim
