// The end of one rank in its world. For world.cpp and world_endpoint.cpp only.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "exec/world.h"

namespace foretrain::exec {

// What a ticket points to.
struct World::Slot {
  struct Item {
    Operation* operation = nullptr;  // nullptr: complete and let go
    int index = 0;
    const GroupView* group = nullptr;  // of a collective
  };
  std::vector<Item> items;
  Time posted, first_ready;  // the latter negative: none is
};

class World::Endpoint : public Communicator {
 public:
  Endpoint(World& world, plan::Rank rank, bool may_spin)
      : world_(world), rank_(rank), seat_(world.seat_of(rank)), may_spin_(may_spin) {}

  Ticket post(const CollectiveCall& call) override;
  Ticket post(std::span<const MessageCall> messages) override;
  int first_sent(std::span<const MessageCall> receives) override;
  bool is_left_out(plan::Rank rank) const override { return world_.is_left_out(rank); }
  bool poll(Ticket ticket, Time* start) override;
  std::vector<plan::Rank> missing(Ticket ticket) override;
  std::vector<plan::Rank> busy_ranks() override;
  std::uint32_t progress_count() override { return seat().wake.value(); }
  void wait(std::uint32_t seen, std::chrono::nanoseconds limit) override;
  bool may_spin() const override { return may_spin_; }
  Bytes workspace() const override { return {}; }

 private:
  Seat& seat() const { return world_.board_.seat(seat_); }
  Slot& new_slot();
  void put_down(Operation& operation, int index, const void* in, void* out, const std::int32_t* to);
  void arrive(Operation& operation, Board::Lock& lock);
  bool advance(Slot::Item& item, Slot& slot);
  bool has_lost_receiver(const Slot::Item& item) const;
  void throw_if_cancelled() const {
    if (world_.cancelled()) {
      throw Cancelled{};
    }
  }

  World& world_;
  plan::Rank rank_;
  int seat_;
  bool may_spin_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_slots_;
  SharedOperation shared_;  // of the share being done
};

}  // namespace foretrain::exec
