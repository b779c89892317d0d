// One rank's part of an operation whose members live on several hosts.
//
// Two levels, direct. Elements are cut into one part per member, which owns it. On each other host one member, chosen
// by the part's number, speaks for that host: it sums its host's values of the part in member order and sends the sum
// to the owner, who adds the hosts' sums in the order of their first members and sends the result back, once per host;
// within a host memory is shared. So a host's link carries, each way, of S bytes over H hosts with as many members on
// each: all_reduce 2 (H-1)/H S, reduce_scatter (the first half) and all_gather (the second) (H-1)/H S; broadcast sends
// S to each other host once; all_to_all, gather, distribute and messages go straight from member to member. Parts
// travel in pieces, so that sums, sends and receives overlap. With one member per host the sums are taken in member
// order, as on one host: the same bits; with more, and on other hosts, in another order.
#pragma once

#include <cstdint>
#include <vector>

#include "exec/communicator.h"
#include "exec/parcels.h"
#include "exec/shares.h"

namespace foretrain::exec {

// Where a group's members live.
struct GroupHosts {
  std::vector<std::vector<int>> members;  // by host in order of their first members: indices in the group, ascending
  std::vector<int> processes;             // by index in the group
  int own_host = 0;                       // this rank's

  const std::vector<int>& near() const { return members[static_cast<std::size_t>(own_host)]; }
};

// Driven by one thread. `near` gives operands of the members on this host, by their order there.
class HostExchange {
 public:
  HostExchange(const CollectiveCall& call, const GroupHosts& hosts, const SharedOperation& near);
  // Of a message whose other end is on another host.
  HostExchange(const MessageCall& call, int other_process);

  // Does what can be done now; true if that was anything.
  bool advance(Parcels& parcels);
  bool complete() const { return first_open_ == pieces_.size(); }

 private:
  enum class Role : std::uint8_t { owner, speaker, sender, receiver };
  // A range of bytes of one part and what this rank does with it.
  struct Piece {
    Role role{};
    std::int32_t part = 0, number = 0;
    std::int64_t begin = 0, end = 0;  // bytes of the operation; of a sender or receiver, of `data`
    std::byte* data = nullptr;
    int process = -1;  // the other one, of all but an owner
    int stage = 0;
    std::vector<Parcels::Transfer*> transfers;
    std::vector<std::byte> scratch;
  };

  void add_pieces(Role role, std::int32_t part, std::int64_t begin, std::int64_t end, int process);
  void add_transfer(bool sends, std::int32_t part, std::byte* data, std::int64_t bytes, int process);
  void plan_parts();
  void plan_blocks();
  void plan_star();
  bool advance(Piece& piece, Parcels& parcels);
  bool advance_owner(Piece& piece, Parcels& parcels);
  bool advance_speaker(Piece& piece, Parcels& parcels);
  bool transfers_done(Piece& piece, Parcels& parcels);
  int speaker(int host, std::int32_t part) const;
  const std::byte* near_sum(Piece& piece, std::byte* scratch) const;
  void reduce(const std::vector<const std::byte*>& sources, std::byte* out, std::int64_t bytes) const;
  void spread(const Piece& piece, const std::byte* result) const;
  std::byte* out_of(int near_index, const Piece& piece) const;
  std::int64_t part_bytes(std::int32_t part, std::int64_t* begin) const;

  CollectiveCall call_;
  GroupHosts hosts_;
  SharedOperation near_;
  int index_ = 0, near_index_ = 0;  // of this rank in the group, on its host
  bool reduces_ = false, gives_back_ = false;
  std::vector<Piece> pieces_;
  std::size_t first_open_ = 0;
};

}  // namespace foretrain::exec
