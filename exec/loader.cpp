#include "exec/loader.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/dispatch.h"
#include "exec/load_tokens.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

constexpr std::chrono::microseconds kSoon{50};

const plan::Host& host_of(const OpCall& load) {
  return std::get<plan::Host>(load.op->work);
}

std::int64_t bytes_of(const OpCall& load) {
  return size_bytes(load.writes[0].dtype, load.op->writes[0].elements);
}

std::chrono::nanoseconds as_duration(Time t) {
  return std::chrono::nanoseconds(t.value / 1000);
}

}  // namespace

Loader::Loader(std::vector<OpCall> loads, int first_step, const plan::ReadRate& rate, const DataCache* cache)
    : loads_(std::move(loads)),
      first_step_(first_step),
      ahead_(static_cast<std::size_t>(host_of(loads_.at(0)).prefetch)),
      rate_(rate),
      cache_(cache),
      slots_(ahead_ + 1),
      arrivals_(host_of(loads_[0]).loaders) {
  std::int64_t most = 0;
  for (const OpCall& load : loads_) {
    most = std::max(most, bytes_of(load));
  }
  for (Slot& slot : slots_) {
    slot.bytes.resize(static_cast<std::size_t>(most));
  }
  while (asked_ < ahead_) {
    ask();
  }
  for (std::int64_t i = 0; i < host_of(loads_[0]).loaders; ++i) {
    threads_.emplace_back([this] { work(); });
  }
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

// REQUIRES: the mutex is held, or nobody else is there.
void Loader::ask() {
  Slot& slot = slot_of(asked_);
  slot.of_storage = of_storage(asked_++);
  slot.due = slot.of_storage == 0 ? arrivals_.ask(now(), {}, {})
                                  : arrivals_.ask(now(), rate_.transfer(Bytes{slot.of_storage}), rate_.latency);
  changed_.notify_all();  // one may be at its wait for storage
}

std::int64_t Loader::of_storage(std::size_t number) const {
  const OpCall& load = load_of(number);
  const plan::Host& op = host_of(load);
  if (cache_ == nullptr) {
    return op.bytes;
  }
  const std::int64_t first = first_sequence(load, op);
  std::int64_t missing = 0;
  for (std::int64_t s = 0; s < op.sequences; ++s) {
    missing += cache_->has(step_of(number), first + s) ? 0 : 1;
  }
  return missing * (op.bytes / op.sequences);
}

void Loader::fill(std::size_t number) {
  OpCall call = load_of(number);
  call.binding.step = step_of(number);
  call.writes[0].data = slot_of(number).bytes.data();
  run_kernel(kernels::cpu_launchers(), call);
}

// Instants are those of exact threads: what these are late is not added up.
void Loader::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_over_ || begun_ < asked_; });
    if (is_over_) {
      return;
    }
    const std::size_t number = begun_++;
    const Time due = slot_of(number).due;
    lock.unlock();
    std::exception_ptr failure;
    try {
      fill(number);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure ? failure : failure_;
    while (!is_over_ && now() < due) {
      changed_.wait_for(lock, as_duration(due - now()));
    }
    slot_of(number).is_there = true;
  }
}

bool Loader::take(const OpCall& call) {
  const std::lock_guard lock(mutex_);
  if (asked_ == taken_) {
    ask();
  }
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  Slot& slot = slot_of(taken_);
  if (!slot.is_there) {
    return false;
  }
  const OpCall& expected = load_of(taken_);
  CHECK(call.op == expected.op && call.binding.microbatch == expected.binding.microbatch &&
            call.binding.step == step_of(taken_),
        "microbatch {} of step {} is loaded out of turn", call.binding.microbatch, call.binding.step);
  std::memcpy(call.writes[0].data, slot.bytes.data(), static_cast<std::size_t>(bytes_of(call)));
  read_.of_storage += slot.of_storage;
  read_.of_cache += host_of(expected).bytes - slot.of_storage;
  slot.is_there = false;
  ++taken_;
  while (asked_ < taken_ + ahead_) {
    ask();
  }
  return true;
}

std::chrono::nanoseconds Loader::wait() {
  const std::lock_guard lock(mutex_);
  return std::max<std::chrono::nanoseconds>(kSoon, as_duration(slot_of(taken_).due - now()));
}

}  // namespace foretrain::exec
