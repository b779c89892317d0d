#include "exec/board.h"

#include <cerrno>
#include <chrono>
#include <ctime>
#include <new>

#include "base/error.h"

namespace foretrain::exec {

namespace {

constexpr int kBuckets = 1024;
// A rank posts one operation per stream, or one batch of messages: far fewer.
constexpr int kOperationsPerSeat = 64;
constexpr std::chrono::seconds kLockTry{1};
// Looks at a lock that another holds, before sleeping on it: what is done under it is far shorter than a wakeup.
constexpr int kLockSpins = 100;

int operations(int seats) {
  return seats * kOperationsPerSeat;
}

std::size_t bucket(const OperationKey& key) {
  std::uint64_t hash = 0;
  for (const std::int64_t part : {std::int64_t{key.match.tag}, std::int64_t{key.match.layer},
                                  std::int64_t{key.match.microbatch}, std::int64_t{key.step}, key.from, key.to}) {
    hash = (hash ^ static_cast<std::uint64_t>(part)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return static_cast<std::size_t>(hash % kBuckets);
}

}  // namespace

static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free, "processes share them");

// At the start of the memory; seats, operations and their postings follow.
struct Board::Head {
  std::atomic<bool> cancelled{false};  // every poll reads it: not on a line that is written
  alignas(64) pthread_mutex_t mutex;
  std::int32_t spare = -1;
  std::int32_t buckets[kBuckets];
};

Bytes Board::size(int seats) {
  const auto n = static_cast<std::size_t>(seats), ops = static_cast<std::size_t>(operations(seats));
  return Bytes{static_cast<std::int64_t>(sizeof(Head) + alignof(Seat) + n * sizeof(Seat) + ops * sizeof(Operation) +
                                         ops * n * sizeof(Posting))};
}

Board::Board(int seats, SharedMemory::Reach reach) : memory_(SharedMemory::create(size(seats), reach)), seats_(seats) {
  CHECK(seats >= 1, "a board of {} seats", seats);
  Head& h = *new (memory_.data()) Head;
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  ::pthread_mutex_init(&h.mutex, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  for (std::int32_t& first : h.buckets) {
    first = -1;
  }
  for (int i = 0; i < seats; ++i) {
    new (&seat(i)) Seat;
  }
  h.spare = 0;
  for (int i = 0; i < operations(seats); ++i) {
    new (&operation(i)) Operation;
    operation(i).next = i + 1 < operations(seats) ? i + 1 : -1;
  }
}

Board::Board(int seats, std::int64_t pid, int descriptor)
    : memory_(SharedMemory::attach(pid, descriptor, size(seats))), seats_(seats) {}

Board::Head& Board::head() const {
  return *std::launder(reinterpret_cast<Head*>(memory_.data()));
}

Seat& Board::seat(int index) const {
  constexpr std::size_t kStart = (sizeof(Head) + alignof(Seat) - 1) / alignof(Seat) * alignof(Seat);
  return *std::launder(reinterpret_cast<Seat*>(memory_.data() + kStart) + index);
}

Operation& Board::operation(std::int32_t index) const {
  return *std::launder(reinterpret_cast<Operation*>(&seat(seats_)) + index);
}

Posting& Board::posting(const Operation& operation, int index) const {
  const auto of = &operation - &this->operation(0);
  return *std::launder(reinterpret_cast<Posting*>(&this->operation(operations(seats_))) + of * seats_ + index);
}

Board::Lock::Lock(const Board& board) : mutex_(&board.head().mutex) {
  int status = ::pthread_mutex_trylock(mutex_);
  for (int i = 0; i < kLockSpins && status == EBUSY; ++i) {
    __builtin_ia32_pause();
    status = ::pthread_mutex_trylock(mutex_);
  }
  while (status == EBUSY || (status == ETIMEDOUT && !board.cancelled())) {
    timespec until{};
    ::clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += kLockTry.count();
    status = ::pthread_mutex_timedlock(mutex_, &until);
  }
  if (status == ETIMEDOUT) {
    throw Cancelled{};
  }
  if (status == EOWNERDEAD) {
    board.link_again();
    ::pthread_mutex_consistent(mutex_);
    return;
  }
  CHECK(status == 0, "the board's lock: error {}", status);
}

// All tables anew, as operations say themselves whether they are in use.
void Board::link_again() const {
  Head& h = head();
  h.spare = -1;
  for (std::int32_t& first : h.buckets) {
    first = -1;
  }
  for (std::int32_t i = operations(seats_) - 1; i >= 0; --i) {
    Operation& o = operation(i);
    std::int32_t& first = o.in_use.load(std::memory_order_acquire) ? h.buckets[bucket(o.key)] : h.spare;
    o.next = first;
    first = i;
  }
}

void Board::Lock::unlock() {
  if (mutex_ != nullptr) {
    ::pthread_mutex_unlock(mutex_);
    mutex_ = nullptr;
  }
}

Operation& Board::join(const OperationKey& key, int members) {
  Head& h = head();
  std::int32_t& first = h.buckets[bucket(key)];
  for (std::int32_t i = first; i >= 0; i = operation(i).next) {
    if (operation(i).key == key) {
      return operation(i);
    }
  }
  CHECK(h.spare >= 0, "more than {} operations are under way", operations(seats_));
  const std::int32_t index = h.spare;
  Operation& o = operation(index);
  h.spare = o.next;
  o.key = key;
  o.members = members;
  o.posted.store(0, std::memory_order_relaxed);
  o.ready.store(false, std::memory_order_relaxed);
  o.shares_done.store(0, std::memory_order_relaxed);
  o.released.store(0, std::memory_order_relaxed);
  for (int i = 0; i < members; ++i) {
    new (&posting(o, i)) Posting;
  }
  o.in_use.store(true, std::memory_order_release);
  o.next = first;
  first = index;
  return o;
}

const Operation* Board::find(const OperationKey& key) const {
  std::int32_t i = head().buckets[bucket(key)];
  while (i >= 0 && operation(i).key != key) {
    i = operation(i).next;
  }
  return i < 0 ? nullptr : &operation(i);
}

void Board::remove(Operation& removed) {
  Head& h = head();
  const auto index = static_cast<std::int32_t>(&removed - &operation(0));
  std::int32_t* link = &h.buckets[bucket(removed.key)];
  while (*link != index) {
    link = &operation(*link).next;
  }
  removed.in_use.store(false, std::memory_order_release);
  *link = removed.next;
  removed.next = h.spare;
  h.spare = index;
}

void Board::cancel() const {
  head().cancelled.store(true, std::memory_order_release);
  for (int i = 0; i < seats_; ++i) {
    seat(i).wake.notify();
  }
}

bool Board::cancelled() const {
  return head().cancelled.load(std::memory_order_acquire);
}

}  // namespace foretrain::exec
