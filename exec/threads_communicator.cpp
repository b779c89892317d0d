#include "exec/threads_communicator.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/shares.h"

namespace foretrain::exec {

namespace {

// Up to this many bytes over all members the last to post does everybody's share: waking the others once is dearer.
constexpr std::int64_t kSmallOperation = 64 * 1024;

}  // namespace

// Members are filled in as they post, under the world's mutex. After `ready` only `share_done`, `shares_done` (atomic)
// and `released` (under the mutex) change.
struct ThreadsWorld::Operation {
  OperationKey key;
  SharedOperation data;
  std::vector<plan::Rank> members;
  std::vector<char> posted;
  int posted_count = 0;
  int released = 0;
  int shares = 0;  // how many must be done: all members', or just the receiver's
  Time ready_time;
  std::atomic<bool> ready{false};
  std::atomic<int> shares_done{0};
  std::vector<std::atomic<bool>> share_done;

  bool complete() const { return shares_done.load(std::memory_order_acquire) == shares; }
};

// What a ticket points to.
struct ThreadsWorld::Slot {
  struct Item {
    Operation* operation = nullptr;  // nullptr: complete and let go
    int index = 0;
  };
  std::vector<Item> items;
  Time posted, first_ready;  // the latter negative: none is
};

class ThreadsWorld::Endpoint : public Communicator {
 public:
  Endpoint(ThreadsWorld& world, plan::Rank rank, bool may_spin) : world_(world), rank_(rank), may_spin_(may_spin) {}

  Ticket post(const CollectiveCall& call) override;
  Ticket post(std::span<const MessageCall> messages) override;
  bool poll(Ticket ticket, Time* start) override;
  std::vector<plan::Rank> missing(Ticket ticket) override;
  std::vector<plan::Rank> busy_ranks() override;
  std::uint32_t progress_count() override { return wake_.value(); }
  void wait(std::uint32_t seen, std::chrono::nanoseconds limit) override;
  bool may_spin() const override { return may_spin_; }
  Bytes workspace() const override { return {}; }

  void wake() { wake_.notify(); }
  bool waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  Slot& new_slot();
  bool advance(Slot::Item& item, Slot& slot);
  void arrive(Operation& operation, int index, std::unique_lock<std::mutex>& lock);
  void throw_if_cancelled() const {
    if (world_.cancelled()) {
      throw Cancelled{};
    }
  }

  ThreadsWorld& world_;
  plan::Rank rank_;
  bool may_spin_;
  EventCount wake_;
  std::atomic<bool> waiting_{false};  // since the last post or completion this rank has had to wait
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_slots_;
};

ThreadsWorld::ThreadsWorld(int ranks) {
  CHECK(ranks >= 1, "a world of {} ranks", ranks);
  const bool may_spin = ranks <= available_cores();
  for (int r = 0; r < ranks; ++r) {
    endpoints_.push_back(std::make_unique<Endpoint>(*this, r, may_spin));
  }
}

ThreadsWorld::~ThreadsWorld() = default;

Communicator& ThreadsWorld::communicator(plan::Rank rank) {
  return *endpoints_.at(static_cast<std::size_t>(rank));
}

void ThreadsWorld::cancel() {
  cancelled_.store(true, std::memory_order_release);
  for (const auto& endpoint : endpoints_) {
    endpoint->wake();
  }
}

// REQUIRES: the mutex is held.
ThreadsWorld::Operation& ThreadsWorld::join(const OperationKey& key, int members) {
  std::unique_ptr<Operation>& entry = operations_[key];
  if (!entry) {
    if (spare_.empty()) {
      entry = std::make_unique<Operation>();
    } else {
      entry = std::move(spare_.back());
      spare_.pop_back();
    }
    const auto n = static_cast<std::size_t>(members);
    entry->key = key;
    entry->data.in.assign(n, nullptr);
    entry->data.out.assign(n, nullptr);
    entry->data.to.assign(n, nullptr);
    entry->posted.assign(n, 0);
    entry->posted_count = entry->released = 0;
    entry->ready.store(false, std::memory_order_relaxed);
    entry->shares_done.store(0, std::memory_order_relaxed);
    if (entry->share_done.size() != n) {
      entry->share_done = std::vector<std::atomic<bool>>(n);
    }
    for (std::atomic<bool>& done : entry->share_done) {
      done.store(false, std::memory_order_relaxed);
    }
  }
  return *entry;
}

void ThreadsWorld::retire(Operation& operation) {
  const std::lock_guard lock(mutex_);
  if (++operation.released == static_cast<int>(operation.members.size())) {
    const auto entry = operations_.find(operation.key);
    spare_.push_back(std::move(entry->second));
    operations_.erase(entry);
  }
}

void ThreadsWorld::wake(const std::vector<plan::Rank>& ranks, plan::Rank except) {
  for (const plan::Rank r : ranks) {
    if (r != except) {
      endpoints_[static_cast<std::size_t>(r)]->wake();
    }
  }
}

ThreadsWorld::Slot& ThreadsWorld::Endpoint::new_slot() {
  if (free_slots_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    free_slots_.push_back(slots_.back().get());
  }
  Slot& slot = *free_slots_.back();
  free_slots_.pop_back();
  slot.items.clear();
  slot.posted = now();
  slot.first_ready = Time{-1};
  waiting_.store(false, std::memory_order_relaxed);
  return slot;
}

// The member has put down its pointers; the last one opens the operation, and does it all if it is small.
void ThreadsWorld::Endpoint::arrive(Operation& operation, int index, std::unique_lock<std::mutex>& lock) {
  const auto i = static_cast<std::size_t>(index);
  CHECK(!operation.posted[i], "rank {} posted tag {} layer {} microbatch {} of step {} twice", rank_,
        operation.key.match.tag, operation.key.match.layer, operation.key.match.microbatch, operation.key.step);
  operation.posted[i] = 1;
  const auto members = static_cast<int>(operation.members.size());
  if (++operation.posted_count < members) {
    return;
  }
  operation.ready_time = now();
  const std::int64_t bytes = size_bytes(operation.data.dtype, operation.data.elements) * members;
  const bool small = bytes <= kSmallOperation;
  lock.unlock();
  if (small) {
    for (int member = 0; member < members; ++member) {
      do_share(operation.data, member);
    }
    operation.shares_done.store(operation.shares, std::memory_order_relaxed);
  }
  operation.ready.store(true, std::memory_order_release);
  world_.wake(operation.members, rank_);
}

Communicator::Ticket ThreadsWorld::Endpoint::post(const CollectiveCall& call) {
  throw_if_cancelled();
  Slot& slot = new_slot();
  std::unique_lock lock(world_.mutex_);
  Operation& operation = world_.join(call.key, call.group->size());
  SharedOperation& data = operation.data;
  if (operation.posted_count == 0) {
    operation.members = call.group->members;
    operation.shares = call.group->size();
    data.kind = call.kind;
    data.is_message = false;
    data.reduction = call.reduction;
    data.dtype = call.dtype;
    data.elements = call.elements;
    data.row = call.row;
    data.root = call.root;
  }
  CHECK(!data.is_message && data.row == call.row && data.kind == call.kind && data.root == call.root &&
            data.reduction == call.reduction && data.dtype == call.dtype && data.elements == call.elements &&
            operation.members == call.group->members,
        "rank {} posts {} of {} {} where others posted {} of {} {} (tag {})", rank_, plan::name(call.kind),
        call.elements, name(call.dtype), plan::name(data.kind), data.elements, name(data.dtype), call.key.match.tag);
  const auto index = static_cast<std::size_t>(call.group->index);
  data.in[index] = call.in;
  data.out[index] = call.out;
  data.to[index] = call.to;
  slot.items.push_back({&operation, call.group->index});
  arrive(operation, call.group->index, lock);
  return &slot;
}

Communicator::Ticket ThreadsWorld::Endpoint::post(std::span<const MessageCall> messages) {
  throw_if_cancelled();
  Slot& slot = new_slot();
  for (const MessageCall& message : messages) {
    std::unique_lock lock(world_.mutex_);
    Operation& operation = world_.join(message.key, 2);
    SharedOperation& data = operation.data;
    if (operation.posted_count == 0) {
      operation.members = {message.key.from, message.key.to};
      operation.shares = 1;
      data.is_message = true;
      data.dtype = message.dtype;
      data.elements = message.elements;
    }
    CHECK(data.is_message && data.dtype == message.dtype && data.elements == message.elements,
          "rank {} {} {} {} where its peer posted {} {} (tag {})", rank_, message.send ? "sends" : "receives",
          message.elements, name(message.dtype), data.elements, name(data.dtype), message.key.match.tag);
    const int index = message.send ? 0 : 1;
    if (message.send) {
      data.in[0] = message.data;
    } else {
      data.out[1] = message.data;
    }
    slot.items.push_back({&operation, index});
    arrive(operation, index, lock);
  }
  return &slot;
}

// True once the operation is complete.
bool ThreadsWorld::Endpoint::advance(Slot::Item& item, Slot& slot) {
  Operation& operation = *item.operation;
  if (!operation.ready.load(std::memory_order_acquire)) {
    return false;
  }
  if (!operation.complete()) {
    const bool has_share = !operation.data.is_message || item.index == 1;
    std::atomic<bool>& done = operation.share_done[static_cast<std::size_t>(item.index)];
    if (!has_share || done.load(std::memory_order_relaxed)) {
      return false;
    }
    do_share(operation.data, item.index);
    done.store(true, std::memory_order_relaxed);
    if (operation.shares_done.fetch_add(1, std::memory_order_acq_rel) + 1 != operation.shares) {
      return false;
    }
    world_.wake(operation.members, rank_);
  }
  slot.first_ready =
      slot.first_ready.value < 0 ? operation.ready_time : std::min(slot.first_ready, operation.ready_time);
  world_.retire(operation);
  item.operation = nullptr;
  return true;
}

bool ThreadsWorld::Endpoint::poll(Ticket ticket, Time* start) {
  throw_if_cancelled();
  Slot& slot = *static_cast<Slot*>(ticket);
  bool all = true;
  for (Slot::Item& item : slot.items) {
    all = (item.operation == nullptr || advance(item, slot)) && all;
  }
  if (!all) {
    return false;
  }
  waiting_.store(false, std::memory_order_relaxed);
  if (start != nullptr) {
    *start = std::max(slot.posted, slot.first_ready);
  }
  free_slots_.push_back(&slot);
  return true;
}

std::vector<plan::Rank> ThreadsWorld::Endpoint::missing(Ticket ticket) {
  const std::lock_guard lock(world_.mutex_);
  std::vector<plan::Rank> ranks;
  for (const Slot::Item& item : static_cast<Slot*>(ticket)->items) {
    if (item.operation == nullptr) {
      continue;
    }
    const Operation& operation = *item.operation;
    const bool ready = operation.ready.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < operation.members.size(); ++i) {
      const bool here =
          ready ? operation.share_done[i].load(std::memory_order_relaxed) || (operation.data.is_message && i == 0)
                : operation.posted[i] != 0;
      if (!here && operation.members[i] != rank_) {
        ranks.push_back(operation.members[i]);
      }
    }
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

std::vector<plan::Rank> ThreadsWorld::Endpoint::busy_ranks() {
  std::vector<plan::Rank> ranks;
  for (const auto& endpoint : world_.endpoints_) {
    if (!endpoint->waiting()) {
      ranks.push_back(endpoint->rank_);
    }
  }
  return ranks;
}

void ThreadsWorld::Endpoint::wait(std::uint32_t seen, std::chrono::nanoseconds limit) {
  throw_if_cancelled();
  waiting_.store(true, std::memory_order_relaxed);
  wake_.wait(seen, limit);
  throw_if_cancelled();
}

}  // namespace foretrain::exec
