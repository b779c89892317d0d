// What the ranks of one host have posted to each other, in memory that all of them share: a table of operations that
// are under way, and a seat per rank. Plain structs, so that threads and processes use it alike.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "base/dtype.h"
#include "base/units.h"
#include "exec/communicator.h"
#include "exec/event_count.h"
#include "exec/shared_memory.h"

namespace foretrain::exec {

// One rank of the host.
struct Seat {
  alignas(64) EventCount wake;
  std::atomic<bool> waiting{false};  // since its last post or completion this rank has had to wait
  std::int32_t process = 0;
  std::uint64_t arena = 0, arena_bytes = 0;  // address in its own process
};

// What one member has put down: addresses in its own process.
struct Posting {
  std::int32_t seat = -1;
  bool posted = false;
  std::atomic<bool> share_done{false};
  const void* in = nullptr;
  void* out = nullptr;
  const std::int32_t* to = nullptr;
};

// Of the members on this host. Postings are filled in under the board's lock. After `ready` only `share_done`,
// `shares_done` and `released` change. Whoever does so may be killed between any two writes: `in_use` and `posted` are
// written behind all that they stand for.
struct Operation {
  OperationKey key;
  std::atomic<bool> in_use{false};
  std::int32_t next = -1;  // in its bucket, or of the spare ones
  bool is_message = false;
  bool spans_hosts = false;  // there are members elsewhere
  plan::CollectiveKind kind{};
  plan::Reduction reduction = plan::Reduction::sum;
  Dtype dtype = Dtype::fp32;
  std::int64_t elements = 0, row = 0;
  int root = -1;
  int members = 0;
  std::atomic<int> posted{0};
  int shares = 0;          // how many must be done: all members', or just the receiver's
  Time begun, ready_time;  // since the first member has posted, since all have
  std::atomic<bool> ready{false};
  std::atomic<int> shares_done{0}, released{0};

  bool complete() const { return shares_done.load(std::memory_order_acquire) == shares; }
};

class Board {
 public:
  Board() = default;
  // Of `seats` ranks; `reach` as of SharedMemory.
  Board(int seats, SharedMemory::Reach reach);
  // Another process's board.
  Board(int seats, std::int64_t pid, int descriptor);

  int descriptor() const { return memory_.descriptor(); }
  int seats() const { return seats_; }
  Seat& seat(int index) const;

  // Held while tables change. Tables of a holder that has died are put in order; behind one that is stopped, a
  // cancellation is thrown.
  class Lock {
   public:
    explicit Lock(const Board& board);
    ~Lock() { unlock(); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    void unlock();

   private:
    pthread_mutex_t* mutex_;
  };

  // REQUIRES of all: the lock is held.
  Operation& join(const OperationKey& key, int members);  // found, or new with nothing posted
  const Operation* find(const OperationKey& key) const;   // nullptr: nobody has posted it
  void remove(Operation& operation);
  Posting& posting(const Operation& operation, int index) const;

  void cancel() const;
  bool cancelled() const;

 private:
  struct Head;
  static Bytes size(int seats);
  Head& head() const;
  Operation& operation(std::int32_t index) const;
  void link_again() const;

  SharedMemory memory_;
  int seats_ = 0;
};

}  // namespace foretrain::exec
