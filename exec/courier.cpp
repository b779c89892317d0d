#include "exec/courier.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "exec/leave_behind.h"

namespace foretrain::exec {

namespace {

// Between two looks at what is under way; the message library makes progress only when it is asked. Longer and longer
// while nothing moves: the thread shares a core with its rank.
constexpr std::chrono::microseconds kShortNap{10}, kLongNap{40};
constexpr std::chrono::milliseconds kIdle{1000};
constexpr unsigned long kTimerSlackNanoseconds = 1000;  // else a nap takes 50 us more

}  // namespace

Courier::Courier(Processes& processes)
    : parcels_(std::make_unique<Parcels>(processes, processes.next_channel())), thread_([this] { work(); }) {}

Courier::~Courier() {
  if (stop()) {
    leave_behind(std::move(parcels_));
    leave_behind(std::make_unique<std::list<Active>>(std::move(active_)));
  }
}

bool Courier::stop() {
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
  }
  wake_.notify();
  if (thread_.joinable()) {
    thread_.join();
  }
  return !active_.empty();
}

void Courier::add(Order order) {
  {
    const std::lock_guard lock(mutex_);
    added_.push_back({std::move(order), nullptr});
  }
  wake_.notify();
}

std::string Courier::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool Courier::advance_all() {
  bool moved = parcels_->listen();
  for (auto a = active_.begin(); a != active_.end();) {
    if (a->exchange == nullptr) {
      if (!a->order.is_ready()) {
        ++a;
        continue;
      }
      a->exchange = std::make_unique<HostExchange>(a->order.begin());
    }
    moved = a->exchange->advance(*parcels_) || moved;
    if (a->exchange->complete()) {
      a->order.end();
      a = active_.erase(a);
      moved = true;
    } else {
      ++a;
    }
  }
  return moved;
}

void Courier::work() {
  ::prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds, 0, 0, 0);
  std::chrono::microseconds nap = kShortNap;
  try {
    while (true) {
      const std::uint32_t seen = wake_.value();
      {
        const std::lock_guard lock(mutex_);
        if (stops_) {
          return;
        }
        active_.splice(active_.end(), added_);
      }
      if (active_.empty()) {
        wake_.wait(seen, kIdle);
        nap = kShortNap;
      } else if (advance_all()) {
        nap = kShortNap;
      } else {
        wake_.wait(seen, nap);
        nap = std::min(kLongNap, nap + nap);
      }
    }
  } catch (const std::exception& e) {
    const std::lock_guard lock(mutex_);
    failure_ = e.what();
  }
}

}  // namespace foretrain::exec
