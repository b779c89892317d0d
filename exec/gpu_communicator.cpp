#include "exec/gpu_communicator.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "exec/event_count.h"
#include "exec/shares.h"

namespace foretrain::exec {

struct GpuWorld::Operation {
  struct Member {
    plan::Rank rank = 0;
    SharedEvent ready, done;  // absent: has not posted, has not enqueued its share
  };
  SharedOperation shared;
  std::vector<Member> members;

  bool is_posted() const {
    return std::all_of(members.begin(), members.end(), [](const Member& m) { return m.ready != nullptr; });
  }
  // The sender of a message has no share.
  bool has_share(std::size_t member) const { return !shared.is_message || member == 1; }
  bool is_submitted() const {
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (has_share(i) && members[i].done == nullptr) {
        return false;
      }
    }
    return true;
  }
};

class GpuWorld::Endpoint : public GpuCommunicator {
 public:
  Endpoint(GpuWorld& world, plan::Rank rank, bool may_spin) : world_(world), rank_(rank), may_spin_(may_spin) {}

  Ticket post(const CollectiveCall& call, GpuStream stream, const SharedEvent& ready) override;
  Ticket post(std::span<const MessageCall> messages, GpuStream stream, const SharedEvent& ready) override;
  bool submit(Ticket ticket) override;
  Time finish(Ticket ticket) override;
  std::vector<plan::Rank> missing(Ticket ticket) override;
  std::vector<plan::Rank> busy_ranks() override;
  std::uint32_t progress_count() override { return wake_.value(); }
  void wait(std::uint32_t seen, std::chrono::nanoseconds limit) override;
  bool may_spin() const override { return may_spin_; }

  void notify() { wake_.notify(); }

 private:
  // What a ticket points to.
  struct Slot {
    struct Item {
      std::shared_ptr<Operation> operation;
      std::size_t index = 0;  // of this rank among the members
      bool is_submitted = false;
    };
    GpuStream stream;
    SharedEvent ready;
    std::vector<Item> items;
  };

  Slot& new_slot(GpuStream stream, const SharedEvent& ready);
  // REQUIRES: the operations are locked.
  void put_down(Slot& slot, std::shared_ptr<Operation> operation, std::size_t index, const void* in, void* out,
                const std::int32_t* to);
  bool submit(Slot& slot, Slot::Item& item);
  void throw_if_cancelled() const {
    if (world_.cancelled()) {
      throw Cancelled{};
    }
  }

  GpuWorld& world_;
  plan::Rank rank_;
  bool may_spin_;
  EventCount wake_;
  std::atomic<bool> waiting_{false};
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_slots_;
};

// ---- posting --------------------------------------------------------------------------------------------------------

GpuWorld::Endpoint::Slot& GpuWorld::Endpoint::new_slot(GpuStream stream, const SharedEvent& ready) {
  throw_if_cancelled();
  if (free_slots_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    free_slots_.push_back(slots_.back().get());
  }
  Slot& slot = *free_slots_.back();
  free_slots_.pop_back();
  slot.stream = stream;
  slot.ready = ready;
  waiting_.store(false, std::memory_order_relaxed);
  return slot;
}

void GpuWorld::Endpoint::put_down(Slot& slot, std::shared_ptr<Operation> operation, std::size_t index, const void* in,
                                  void* out, const std::int32_t* to) {
  Operation::Member& member = operation->members[index];
  CHECK(member.ready == nullptr, "rank {} posted an operation twice", rank_);
  member.ready = slot.ready;
  operation->shared.in[index] = in;
  operation->shared.out[index] = out;
  operation->shared.to[index] = to;
  if (operation->is_posted()) {
    world_.wake(*operation, rank_);
  }
  slot.items.push_back({std::move(operation), index, false});
}

Partners::Ticket GpuWorld::Endpoint::post(const CollectiveCall& call, GpuStream stream, const SharedEvent& ready) {
  CHECK(call.reduction == plan::Reduction::sum, "GPUs reduce by sums, not by {}", plan::name(call.reduction));
  Slot& slot = new_slot(stream, ready);
  const std::lock_guard lock(world_.mutex_);
  std::shared_ptr<Operation> operation = world_.join(call.key, call.group->members);
  SharedOperation& shared = operation->shared;
  const bool is_first = shared.in.empty();
  if (is_first) {
    shared.kind = call.kind;
    shared.dtype = call.dtype;
    shared.elements = call.elements;
    shared.root = call.root;
    shared.row = call.row;
    const auto members = static_cast<std::size_t>(call.group->size());
    shared.in.resize(members);
    shared.out.resize(members);
    shared.to.resize(members);
  }
  CHECK(!shared.is_message && shared.kind == call.kind && shared.dtype == call.dtype &&
            shared.elements == call.elements && shared.root == call.root && shared.row == call.row,
        "rank {} posts {} of {} {} where others posted {} of {} {} (tag {})", rank_, plan::name(call.kind),
        call.elements, name(call.dtype), plan::name(shared.kind), shared.elements, name(shared.dtype),
        call.key.match.tag);
  put_down(slot, std::move(operation), static_cast<std::size_t>(call.group->index), call.in, call.out, call.to);
  return &slot;
}

Partners::Ticket GpuWorld::Endpoint::post(std::span<const MessageCall> messages, GpuStream stream,
                                          const SharedEvent& ready) {
  Slot& slot = new_slot(stream, ready);
  const std::lock_guard lock(world_.mutex_);
  for (const MessageCall& message : messages) {
    std::shared_ptr<Operation> operation = world_.join(message.key, {message.key.from, message.key.to});
    SharedOperation& shared = operation->shared;
    if (shared.in.empty()) {
      shared.is_message = true;
      shared.dtype = message.dtype;
      shared.elements = message.elements;
      shared.in.resize(2);
      shared.out.resize(2);
      shared.to.resize(2);
    }
    CHECK(shared.is_message && shared.dtype == message.dtype && shared.elements == message.elements,
          "rank {} {} {} {} where its peer posted {} {} (tag {})", rank_, message.send ? "sends" : "receives",
          message.elements, name(message.dtype), shared.elements, name(shared.dtype), message.key.match.tag);
    put_down(slot, std::move(operation), message.send ? 0 : 1, message.send ? message.data : nullptr,
             message.send ? nullptr : message.data, nullptr);
  }
  return &slot;
}

// ---- enqueueing -----------------------------------------------------------------------------------------------------

bool GpuWorld::Endpoint::submit(Slot& slot, Slot::Item& item) {
  Operation& operation = *item.operation;
  Operation::Member& own = operation.members[item.index];
  {
    const std::lock_guard lock(world_.mutex_);
    if (!operation.is_posted()) {
      return false;
    }
  }
  // Nobody writes to it now but its members, each its own share's event.
  Gpu& gpu = world_.gpu_;
  if (operation.has_share(item.index) && own.done == nullptr) {
    for (const Operation::Member& member : operation.members) {
      if (member.rank != rank_) {
        gpu.wait(slot.stream, *member.ready);
      }
    }
    do_share(gpu.on(slot.stream), operation.shared, static_cast<int>(item.index));
    const SharedEvent done = world_.events_.take();
    gpu.record(*done, slot.stream);
    const std::lock_guard lock(world_.mutex_);
    own.done = done;
    if (operation.is_submitted()) {
      world_.wake(operation, rank_);
    }
  }
  {
    const std::lock_guard lock(world_.mutex_);
    if (!operation.is_submitted()) {
      return false;
    }
  }
  for (std::size_t i = 0; i < operation.members.size(); ++i) {
    if (i != item.index && operation.has_share(i)) {
      gpu.wait(slot.stream, *operation.members[i].done);
    }
  }
  return true;
}

bool GpuWorld::Endpoint::submit(Ticket ticket) {
  throw_if_cancelled();
  Slot& slot = *static_cast<Slot*>(ticket);
  bool all = true;
  for (Slot::Item& item : slot.items) {
    item.is_submitted = item.is_submitted || submit(slot, item);
    all = all && item.is_submitted;
  }
  if (all) {
    waiting_.store(false, std::memory_order_relaxed);
  }
  return all;
}

Time GpuWorld::Endpoint::finish(Ticket ticket) {
  Slot& slot = *static_cast<Slot*>(ticket);
  Time first{-1};
  for (const Slot::Item& item : slot.items) {
    Time ready;
    for (const Operation::Member& member : item.operation->members) {
      ready = std::max(ready, world_.gpu_.time_of(*member.ready));
    }
    first = first.value < 0 ? ready : std::min(first, ready);
  }
  const Time start = std::max(first, world_.gpu_.time_of(*slot.ready));
  slot.items.clear();
  slot.ready = nullptr;
  free_slots_.push_back(&slot);
  return start;
}

// ---- waiting --------------------------------------------------------------------------------------------------------

std::vector<plan::Rank> GpuWorld::Endpoint::missing(Ticket ticket) {
  const std::lock_guard lock(world_.mutex_);
  std::vector<plan::Rank> ranks;
  for (const Slot::Item& item : static_cast<Slot*>(ticket)->items) {
    const Operation& operation = *item.operation;
    const bool posted = operation.is_posted();
    for (std::size_t i = 0; i < operation.members.size(); ++i) {
      const Operation::Member& member = operation.members[i];
      const bool is_here = posted ? member.done != nullptr || !operation.has_share(i) : member.ready != nullptr;
      if (!is_here && member.rank != rank_) {
        ranks.push_back(member.rank);
      }
    }
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

std::vector<plan::Rank> GpuWorld::Endpoint::busy_ranks() {
  std::vector<plan::Rank> ranks;
  for (const auto& endpoint : world_.endpoints_) {
    if (!endpoint->waiting_.load(std::memory_order_relaxed)) {
      ranks.push_back(endpoint->rank_);
    }
  }
  return ranks;
}

void GpuWorld::Endpoint::wait(std::uint32_t seen, std::chrono::nanoseconds limit) {
  throw_if_cancelled();
  waiting_.store(true, std::memory_order_relaxed);
  wake_.wait(seen, limit);
  throw_if_cancelled();
}

// ---- the world ------------------------------------------------------------------------------------------------------

GpuWorld::GpuWorld(Gpu& gpu, EventPool& events, plan::Rank ranks) : gpu_(gpu), events_(events) {
  for (plan::Rank r = 0; r < ranks; ++r) {
    endpoints_.push_back(std::make_unique<Endpoint>(*this, r, ranks <= available_cores()));
  }
}

GpuWorld::~GpuWorld() = default;

GpuCommunicator& GpuWorld::communicator(plan::Rank rank) {
  return *endpoints_.at(static_cast<std::size_t>(rank));
}

void GpuWorld::cancel() {
  cancelled_.store(true);
  for (const auto& endpoint : endpoints_) {
    endpoint->notify();
  }
}

// REQUIRES: the operations are locked.
std::shared_ptr<GpuWorld::Operation> GpuWorld::join(const OperationKey& key, std::vector<plan::Rank> members) {
  const auto [place, is_new] = open_.try_emplace(key);
  if (is_new) {
    place->second = std::make_shared<Operation>();
    for (const plan::Rank rank : members) {
      place->second->members.push_back({rank, nullptr, nullptr});
    }
  }
  std::shared_ptr<Operation> operation = place->second;
  // This is the last one to come.
  if (std::count_if(operation->members.begin(), operation->members.end(),
                    [](const Operation::Member& m) { return m.ready == nullptr; }) == 1) {
    open_.erase(place);
  }
  return operation;
}

void GpuWorld::wake(const Operation& operation, plan::Rank except) {
  for (const Operation::Member& member : operation.members) {
    if (member.rank != except) {
      endpoints_[static_cast<std::size_t>(member.rank)]->notify();
    }
  }
}

}  // namespace foretrain::exec
