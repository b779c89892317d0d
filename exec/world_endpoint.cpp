#include "exec/world_endpoint.h"

#include <algorithm>

#include "base/error.h"
#include "exec/clock.h"

namespace foretrain::exec {

namespace {

// Up to this many bytes over all members the last to post does everybody's share: waking the others once is dearer.
constexpr std::int64_t kSmallOperation = 64 * 1024;

}  // namespace

World::Slot& World::Endpoint::new_slot() {
  if (free_slots_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    free_slots_.push_back(slots_.back().get());
  }
  Slot& slot = *free_slots_.back();
  free_slots_.pop_back();
  slot.items.clear();
  slot.posted = now();
  slot.first_ready = Time{-1};
  seat().waiting.store(false, std::memory_order_relaxed);
  return slot;
}

// REQUIRES: the board is locked.
void World::Endpoint::put_down(Operation& operation, int index, const void* in, void* out, const std::int32_t* to) {
  Posting& posting = world_.board_.posting(operation, index);
  CHECK(!posting.posted, "rank {} posted tag {} layer {} microbatch {} of step {} twice", rank_,
        operation.key.match.tag, operation.key.match.layer, operation.key.match.microbatch, operation.key.step);
  posting.seat = seat_;
  posting.in = in;
  posting.out = out;
  posting.to = to;
  posting.posted = true;
  operation.posted.fetch_add(1, std::memory_order_release);
}

// The member has put down its operands; the last one opens the operation, and does it all if it is small.
void World::Endpoint::arrive(Operation& operation, Board::Lock& lock) {
  if (operation.posted < operation.members) {
    return;
  }
  operation.ready_time = now();
  const std::int64_t bytes = size_bytes(operation.dtype, operation.elements) * operation.members;
  lock.unlock();
  if (bytes <= kSmallOperation && !operation.spans_hosts) {
    world_.view(operation, shared_);
    for (int member = 0; member < operation.members; ++member) {
      do_share(kernels::cpu_launchers(), shared_, member);
    }
    operation.shares_done.store(operation.shares, std::memory_order_relaxed);
  }
  operation.ready.store(true, std::memory_order_release);
  world_.wake(operation, seat_);
}

Communicator::Ticket World::Endpoint::post(const CollectiveCall& call) {
  throw_if_cancelled();
  Slot& slot = new_slot();
  const bool spans_hosts = world_.spans_hosts(call.group->members);
  const std::vector<int> near = world_.near_members(*call.group);
  const auto members = static_cast<int>(near.size());
  const auto index = static_cast<int>(std::find(near.begin(), near.end(), call.group->index) - near.begin());
  Board::Lock lock(world_.board_);
  Operation& operation = world_.board_.join(call.key, members);
  if (operation.posted == 0) {
    operation.shares = members;
    operation.kind = call.kind;
    operation.is_message = false;
    operation.spans_hosts = spans_hosts;
    operation.reduction = call.reduction;
    operation.dtype = call.dtype;
    operation.elements = call.elements;
    operation.row = call.row;
    operation.root = call.root;
  }
  CHECK(!operation.is_message && operation.row == call.row && operation.kind == call.kind &&
            operation.root == call.root && operation.reduction == call.reduction && operation.dtype == call.dtype &&
            operation.elements == call.elements && operation.members == members,
        "rank {} posts {} of {} {} where others posted {} of {} {} (tag {})", rank_, plan::name(call.kind),
        call.elements, name(call.dtype), plan::name(operation.kind), operation.elements, name(operation.dtype),
        call.key.match.tag);
  put_down(operation, index, call.in, call.out, call.to);
  slot.items.push_back({&operation, index, call.group});
  arrive(operation, lock);
  if (spans_hosts) {
    world_.courier_->add({[&operation] { return operation.ready.load(std::memory_order_acquire); },
                          [this, &operation, call] {
                            SharedOperation near_operands;
                            world_.view(operation, near_operands);
                            return HostExchange(call, world_.hosts_of(*call.group), near_operands);
                          },
                          [this, &operation, index] { world_.finish_exchange(operation, index); }});
  }
  return &slot;
}

Communicator::Ticket World::Endpoint::post(std::span<const MessageCall> messages) {
  throw_if_cancelled();
  Slot& slot = new_slot();
  for (const MessageCall& message : messages) {
    const plan::Rank other = message.send ? message.key.to : message.key.from;
    const bool spans_hosts = !world_.is_near(other);
    Board::Lock lock(world_.board_);
    Operation& operation = world_.board_.join(message.key, spans_hosts ? 1 : 2);
    if (operation.posted == 0) {
      operation.shares = 1;
      operation.is_message = true;
      operation.spans_hosts = spans_hosts;
      operation.dtype = message.dtype;
      operation.elements = message.elements;
      operation.begun = slot.posted;
    }
    CHECK(operation.is_message && operation.dtype == message.dtype && operation.elements == message.elements,
          "rank {} {} {} {} where its peer posted {} {} (tag {})", rank_, message.send ? "sends" : "receives",
          message.elements, name(message.dtype), operation.elements, name(operation.dtype), message.key.match.tag);
    const int index = message.send || spans_hosts ? 0 : 1;
    put_down(operation, index, message.send ? message.data : nullptr, message.send ? nullptr : message.data, nullptr);
    slot.items.push_back({&operation, index, nullptr});
    arrive(operation, lock);
    if (message.announces) {
      lock.unlock();
      world_.board_.seat(world_.seat_of(message.key.to)).wake.notify();
    }
    if (spans_hosts) {
      world_.courier_->add({[] { return true; },
                            [this, message, other] { return HostExchange(message, world_.process_of(other)); },
                            [this, &operation] { world_.finish_exchange(operation, 0); }});
    }
  }
  return &slot;
}

int World::Endpoint::first_sent(std::span<const MessageCall> receives) {
  throw_if_cancelled();
  const Board::Lock lock(world_.board_);
  int first = -1;
  Time begun;
  for (std::size_t i = 0; i < receives.size(); ++i) {
    const Operation* const operation = world_.board_.find(receives[i].key);
    if (operation != nullptr && operation->posted.load(std::memory_order_acquire) > 0 &&
        (first < 0 || operation->begun < begun)) {
      first = static_cast<int>(i);
      begun = operation->begun;
    }
  }
  return first;
}

bool World::Endpoint::has_lost_receiver(const Slot::Item& item) const {
  const OperationKey& key = item.operation->key;
  return item.group == nullptr && key.from == rank_ && world_.is_left_out(key.to);
}

// True once the operation is complete, or nobody is there to complete it: then it stays on the board, which has room
// for what a lost rank can leave behind.
bool World::Endpoint::advance(Slot::Item& item, Slot& slot) {
  Operation& operation = *item.operation;
  if (has_lost_receiver(item)) {
    item.operation = nullptr;
    return true;
  }
  if (!operation.ready.load(std::memory_order_acquire)) {
    return false;
  }
  if (!operation.complete()) {
    const bool has_share = !operation.spans_hosts && (!operation.is_message || item.index == 1);
    if (!has_share || world_.board_.posting(operation, item.index).share_done.load(std::memory_order_relaxed)) {
      return false;
    }
    world_.view(operation, shared_);
    do_share(kernels::cpu_launchers(), shared_, item.index);
    if (!world_.finish_share(operation, item.index)) {
      return false;
    }
    world_.wake(operation, seat_);
  }
  slot.first_ready =
      slot.first_ready.value < 0 ? operation.ready_time : std::min(slot.first_ready, operation.ready_time);
  world_.retire(operation);
  item.operation = nullptr;
  return true;
}

bool World::Endpoint::poll(Ticket ticket, Time* start) {
  throw_if_cancelled();
  Slot& slot = *static_cast<Slot*>(ticket);
  bool all = true;
  for (Slot::Item& item : slot.items) {
    all = (item.operation == nullptr || advance(item, slot)) && all;
  }
  if (!all) {
    return false;
  }
  seat().waiting.store(false, std::memory_order_relaxed);
  if (start != nullptr) {
    *start = std::max(slot.posted, slot.first_ready);
  }
  free_slots_.push_back(&slot);
  return true;
}

std::vector<plan::Rank> World::Endpoint::missing(Ticket ticket) {
  const Board::Lock lock(world_.board_);
  std::vector<plan::Rank> ranks;
  for (const Slot::Item& item : static_cast<Slot*>(ticket)->items) {
    if (item.operation == nullptr) {
      continue;
    }
    const Operation& operation = *item.operation;
    const bool ready = operation.ready.load(std::memory_order_acquire);
    const std::vector<plan::Rank> members =
        item.group != nullptr ? item.group->members : std::vector{operation.key.from, operation.key.to};
    int places = 0;
    for (const plan::Rank member : members) {
      if (item.group != nullptr && world_.is_left_out(member)) {
        continue;
      }
      const int place = world_.is_near(member) ? places++ : -1;
      // Once all of this host are there, those of others are waited for.
      const Posting* const posting = place < 0 ? nullptr : &world_.board_.posting(operation, place);
      const bool is_here = posting == nullptr ? !ready
                           : !ready           ? posting->posted
                                    : operation.spans_hosts || posting->share_done.load(std::memory_order_relaxed) ||
                                          (operation.is_message && place == 0);
      if (!is_here && member != rank_) {
        ranks.push_back(member);
      }
    }
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

std::vector<plan::Rank> World::Endpoint::busy_ranks() {
  std::vector<plan::Rank> ranks;
  for (int seat = 0; seat < world_.board_.seats(); ++seat) {
    if (!world_.board_.seat(seat).waiting.load(std::memory_order_relaxed)) {
      ranks.push_back(world_.ranks_of_seats_[static_cast<std::size_t>(seat)]);
    }
  }
  return ranks;
}

void World::Endpoint::wait(std::uint32_t seen, std::chrono::nanoseconds limit) {
  throw_if_cancelled();
  seat().waiting.store(true, std::memory_order_relaxed);
  seat().wake.wait(seen, limit);
  throw_if_cancelled();
}

}  // namespace foretrain::exec
