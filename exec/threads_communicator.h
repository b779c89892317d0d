// Ranks as threads of one process. Nothing is copied on the way: once all members have posted, each member reduces its
// own share straight from everybody's buffers and writes it to all of them; a receiver copies from the sender's buffer.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "exec/communicator.h"
#include "exec/event_count.h"

namespace foretrain::exec {

class ThreadsWorld {
 public:
  explicit ThreadsWorld(int ranks);
  ~ThreadsWorld();
  ThreadsWorld(const ThreadsWorld&) = delete;
  ThreadsWorld& operator=(const ThreadsWorld&) = delete;

  // The end of one rank; lives as long as the world.
  Communicator& communicator(plan::Rank rank);

  // Every rank's next poll or wait throws Cancelled, for good. From any thread.
  void cancel();
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  struct Operation;
  class Endpoint;
  struct Slot;

  Operation& join(const OperationKey& key, int members);
  void retire(Operation& operation);
  void wake(const std::vector<plan::Rank>& ranks, plan::Rank except);

  std::atomic<bool> cancelled_{false};
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::mutex mutex_;  // guards the table, the spare operations and what an operation holds until it is complete
  std::map<OperationKey, std::unique_ptr<Operation>> operations_;
  std::vector<std::unique_ptr<Operation>> spare_;
};

}  // namespace foretrain::exec
