// Where the ranks of one execution live: as threads of this process, or spread over processes and hosts; and the end of
// each. Ranks of a host meet on a board in shared memory and nothing is copied on the way: once all members have
// posted, each member reduces its own share straight from everybody's buffers and writes it to all of them; a receiver
// copies from the sender's buffer.
#pragma once

#include <memory>
#include <vector>

#include "exec/board.h"
#include "exec/communicator.h"
#include "exec/courier.h"
#include "exec/processes.h"
#include "exec/shares.h"

namespace foretrain::exec {

class World {
 public:
  // `ranks` over the processes, the same number in each, in order. All processes make their worlds together. Throws
  // InputError when that does not come out even.
  World(Processes& processes, plan::Rank ranks);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  plan::Rank ranks() const { return ranks_; }
  // Those that live in this process, ascending.
  const std::vector<plan::Rank>& ranks_here() const { return ranks_here_; }
  int process_of(plan::Rank rank) const { return static_cast<int>(rank / ranks_each_); }
  // The end of a rank that lives here; as long as the world.
  Communicator& communicator(plan::Rank rank);

  // Arenas of `bytes` each, by rank, zeroed: where operands of ranks in several processes must lie. All processes
  // together, once. Throws EnvironmentError.
  void allocate_arenas(const std::vector<Bytes>& bytes);
  // Whether the rank lives on this host.
  bool is_near(plan::Rank rank) const { return seat_of(rank) >= 0; }
  // Of any rank of this host; nullptr for others.
  std::byte* arena(plan::Rank rank) const;

  // Throws EnvironmentError when this process cannot exchange with other hosts any more.
  void check() const;

  // Whether a rank that lives here has had to wait since its last exchange. From any thread.
  bool is_waiting(plan::Rank rank) const { return board_.seat(seat_of(rank)).waiting; }

  // What this process has sent so far to one of another host.
  Bytes sent(int to) const { return courier_ ? courier_->sent(to) : Bytes{}; }
  // Every rank's next poll or wait throws Cancelled, for good; on this host. From any thread.
  void cancel() { board_.cancel(); }
  bool cancelled() const { return board_.cancelled(); }

 private:
  class Endpoint;
  struct Slot;

  int seat_of(plan::Rank rank) const { return seats_[static_cast<std::size_t>(rank)]; }
  // The same memory as this process sees it.
  template <class T>
  T* here(int seat, T* address) const;
  // Operands of all members, as this process sees them.
  void view(const Operation& operation, SharedOperation& shared) const;
  void retire(Operation& operation);
  void wake(const Operation& operation, int except_seat);
  bool spans_hosts(const std::vector<plan::Rank>& members) const;
  GroupHosts hosts_of(const GroupView& group) const;
  // Indices in the group of its members on this host.
  std::vector<int> near_members(const GroupView& group) const;
  // Marks a share as done; true if it was the last.
  bool finish_share(Operation& operation, int index);
  void finish_exchange(Operation& operation, int index);

  Processes& processes_;
  plan::Rank ranks_ = 0, ranks_each_ = 1;
  std::vector<plan::Rank> ranks_here_;
  std::vector<int> seats_;                  // by rank: on this host's board; -1 elsewhere
  std::vector<plan::Rank> ranks_of_seats_;  // by seat
  Board board_;
  std::vector<SharedMemory> arenas_;                  // by seat
  std::vector<std::unique_ptr<Endpoint>> endpoints_;  // by ranks_here_
  std::unique_ptr<Courier> courier_;                  // where there are several hosts
};

}  // namespace foretrain::exec
