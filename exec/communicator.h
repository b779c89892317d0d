// How ranks exchange data: one small interface, post and poll, so that threads, MPI and NCCL can stand behind it.
//
// A rank posts a collective or a batch of messages when its stream reaches it, then polls until it is done; polling is
// what drives the work. Operations meet by key: every member posts the same key once. Reductions are taken in rank
// order, whatever the timing: the same bits on every run and in every implementation.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/units.h"
#include "plan/cursor.h"
#include "plan/mesh.h"
#include "plan/ops.h"

namespace foretrain::exec {

// Thrown out of poll() and wait() once the run is cancelled (another rank failed, or the user interrupted).
struct Cancelled {};

// The slice of a process group that this rank stands in.
struct GroupView {
  std::vector<plan::Rank> members;  // in group order; empty: the rank is no member
  int index = 0;                    // of this rank
  int size() const { return static_cast<int>(members.size()); }
};

// One operation of one step. For a collective `from` is the group instance's first member and `to` is -1; for a message
// they are its two ends.
struct OperationKey {
  plan::MatchKey match;
  std::int32_t step = 0;
  plan::Rank from = 0, to = -1;
  friend auto operator<=>(const OperationKey&, const OperationKey&) = default;
};

// `elements` as in plan::Collective: of the whole buffer.
//   all_reduce, broadcast   in and out are equal
//   reduce_scatter          out holds elements / members; it may lie inside in, at this member's own place
//   all_gather              in holds elements / members; it may lie inside out, likewise
//   gather, distribute      a member has one of the two
//   all_to_all              block j of in goes to member j, in != out; with `row` the blocks are to[j] rows, and
//                           from[j] come from member j
struct CollectiveCall {
  OperationKey key;
  plan::CollectiveKind kind{};
  plan::Reduction reduction = plan::Reduction::sum;
  Dtype dtype = Dtype::fp32;
  std::int64_t elements = 0;
  int root = -1;  // of broadcast, gather, distribute
  const void* in = nullptr;
  void* out = nullptr;
  const GroupView* group = nullptr;                   // must outlive the operation
  std::int64_t row = 0;                               // elements of a row
  const std::int32_t *to = nullptr, *from = nullptr;  // by member; must outlive the operation
};

struct MessageCall {
  OperationKey key;
  bool send = true;
  Dtype dtype = Dtype::fp32;
  std::int64_t elements = 0;
  void* data = nullptr;    // only read when sent
  bool announces = false;  // of one that is sent: wakes the receiver, who may not have posted it
};

// What a rank's end knows of the ranks it communicates with. Called from that rank's thread only.
class Partners {
 public:
  using Ticket = void*;  // of an operation that was posted
  virtual ~Partners() = default;

  // Ranks that an unfinished operation still waits for, ascending; and those among all ranks that wait for nobody.
  virtual std::vector<plan::Rank> missing(Ticket ticket) = 0;
  virtual std::vector<plan::Rank> busy_ranks() = 0;

  // Sleeps until something may have changed since progress_count() returned `seen`, at most `limit`. Throws Cancelled.
  virtual std::uint32_t progress_count() = 0;
  virtual void wait(std::uint32_t seen, std::chrono::nanoseconds limit) = 0;
  // Whether spinning before wait() takes nobody's core.
  virtual bool may_spin() const = 0;
};

// One rank's end.
class Communicator : public Partners {
 public:
  virtual Ticket post(const CollectiveCall& call) = 0;
  // A batch; done when every message is.
  virtual Ticket post(std::span<const MessageCall> messages) = 0;

  // Of messages that it could receive, the one that was sent first; -1: none yet. REQUIRES: they announce themselves,
  // and come from this host.
  virtual int first_sent(std::span<const MessageCall> receives) = 0;

  // Whether the run goes on without the rank (World::leave_out): what is sent to it is done with at once.
  virtual bool is_left_out(plan::Rank rank) const = 0;

  // Does what this rank can do now. True when the operation is complete; the ticket is dead then and `start`, if given,
  // is when the last partner had posted, of a batch of messages the first one's. Throws Cancelled.
  virtual bool poll(Ticket ticket, Time* start) = 0;

  // Bytes of buffers that the communicator holds beside the operands.
  virtual Bytes workspace() const = 0;
};

}  // namespace foretrain::exec
