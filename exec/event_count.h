// A counter that a thread can sleep on: the waiter reads it, looks for work, and sleeps only if it has not moved since.
// May lie in memory that processes share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace foretrain::exec {

// One waiting thread, any number of notifying ones.
class EventCount {
 public:
  std::uint32_t value() const { return count_.load(std::memory_order_seq_cst); }
  void notify();
  // Returns when value() != seen, or after `limit`, or spuriously.
  void wait(std::uint32_t seen, std::chrono::nanoseconds limit);

 private:
  std::atomic<std::uint32_t> count_{0};
  std::atomic<bool> sleeping_{false};
};

}  // namespace foretrain::exec
