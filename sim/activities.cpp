#include "sim/activities.h"

#include <algorithm>

namespace foretrain::sim {

namespace {

// `active`, times kFullSpeed, need not be whole: straight between two numbers of ranks.
std::int64_t speed_at(const std::vector<std::int64_t>& by_active, std::int64_t active) {
  const auto below = static_cast<std::size_t>(active / kFullSpeed);
  const std::int64_t part = active % kFullSpeed, speed = by_active[below];
  return part == 0 ? speed : speed + (by_active[below + 1] - speed) * part / kFullSpeed;
}

}  // namespace

Activities::Running& Activities::running(std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= running_.size()) {
    running_.resize(index + 1);
  }
  return running_[index];
}

void Activities::begin(Running& run, Time now, Time duration) {
  ++run.generation;
  run.remaining = static_cast<Work>(duration.value) * kFullSpeed;
  run.since = now;
  run.speed = 0;
}

void Activities::start(std::int32_t id, Time now, Time duration, const std::vector<std::int64_t>& speed_by_active,
                       std::int64_t ranks, std::int64_t at_work) {
  Running& run = running(id);
  if (speed_by_active.empty()) {
    queue_.push({now + duration, id, ++run.generation});
    return;
  }
  begin(run, now, duration);
  run.ranks = ranks;
  run.at_work = at_work;
  run.speed_by_active = &speed_by_active;
  active_ranks_ += ranks * at_work;
  sharing_.push_back(id);
  has_changed_ = true;
}

void Activities::start_shared(std::int32_t id, Time now, Time duration) {
  begin(running(id), now, duration);
}

void Activities::set_speed(std::int32_t id, Time now, std::int64_t speed) {
  Running& run = running_[static_cast<std::size_t>(id)];
  if (speed == run.speed) {
    return;
  }
  run.remaining -= static_cast<Work>((now - run.since).value) * run.speed;
  run.since = now;
  run.speed = speed;
  const auto left = static_cast<std::int64_t>((run.remaining + speed - 1) / speed);
  queue_.push({now + Time{std::max<std::int64_t>(left, 0)}, id, ++run.generation});
}

void Activities::set_speeds(Time now) {
  if (!has_changed_) {
    return;
  }
  has_changed_ = false;
  for (const std::int32_t id : sharing_) {
    const Running& run = running_[static_cast<std::size_t>(id)];
    // What slows it does so while it is at work.
    set_speed(id, now, speed_at(*run.speed_by_active, active_ranks_ - run.at_work + kFullSpeed));
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
    active_ranks_ -= run.ranks * run.at_work;
    sharing_.erase(std::find(sharing_.begin(), sharing_.end(), id));
    has_changed_ = true;
  }
  return id;
}

}  // namespace foretrain::sim
