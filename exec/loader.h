// Reads what a rank is trained on, on threads of its own: ahead of it, and no faster than its part of the storage
// (plan/reading.h says when what is there).
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "exec/data_cache.h"
#include "exec/op_call.h"
#include "plan/reading.h"

namespace foretrain::exec {

class Loader {
 public:
  // `loads`: those of a step, in the order in which they are taken; their ops outlive the loader, and so does the
  // `cache`, if there is one. Begins to read.
  Loader(std::vector<OpCall> loads, int first_step, const plan::ReadRate& rate, const DataCache* cache);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next load: into its operand, if what it reads is there. Throws what reading threw.
  bool take(const OpCall& call);
  // In how long to ask again.
  std::chrono::nanoseconds wait();
  // For what was taken.
  BytesRead read() const { return read_; }

 private:
  struct Slot {
    std::vector<std::byte> bytes;
    Time due;  // of what was last asked for
    std::int64_t of_storage = 0;
    bool is_there = false;
  };

  void ask();
  void work();
  void fill(std::size_t number);
  std::int64_t of_storage(std::size_t number) const;
  Slot& slot_of(std::size_t number) { return slots_[number % slots_.size()]; }
  const OpCall& load_of(std::size_t number) const { return loads_[number % loads_.size()]; }
  int step_of(std::size_t number) const { return first_step_ + static_cast<int>(number / loads_.size()); }

  const std::vector<OpCall> loads_;
  const int first_step_;
  const std::size_t ahead_;
  const plan::ReadRate rate_;
  const DataCache* const cache_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  plan::Arrivals arrivals_;
  std::size_t asked_ = 0, begun_ = 0, taken_ = 0;
  BytesRead read_;
  std::exception_ptr failure_;
  bool is_over_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace foretrain::exec
