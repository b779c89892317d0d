// How ranks whose memory is on GPUs exchange data. The host's threads meet, and what they then put into the streams
// meets again on the GPU by events: no thread waits for a GPU, and no GPU for what nobody has enqueued yet.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "exec/communicator.h"
#include "exec/gpu.h"

namespace foretrain::exec {

// One rank's end. Operands are addresses of the GPU.
class GpuCommunicator : public Partners {
 public:
  // For the stream to do next, once `ready` has been recorded on it.
  virtual Ticket post(const CollectiveCall& call, GpuStream stream, const SharedEvent& ready) = 0;
  virtual Ticket post(std::span<const MessageCall> messages, GpuStream stream, const SharedEvent& ready) = 0;

  // Enqueues what can be. True when all of the operation is in the stream. Throws Cancelled.
  virtual bool submit(Ticket ticket) = 0;
  // When the last partner was ready, of a batch of messages the first one's, as far as it is known here; the ticket is
  // dead then. REQUIRES: the stream has come to the operation's end.
  virtual Time finish(Ticket ticket) = 0;
};

// Ranks of one process that share a GPU: each enqueues its own share (shares.h) once all have posted, behind what made
// everybody's operands ready; and goes on behind everybody's shares. Reductions are in rank order, with the bits that
// Communicator's have.
class GpuWorld {
 public:
  GpuWorld(Gpu& gpu, EventPool& events, plan::Rank ranks);
  ~GpuWorld();
  GpuWorld(const GpuWorld&) = delete;
  GpuWorld& operator=(const GpuWorld&) = delete;

  // As long as the world.
  GpuCommunicator& communicator(plan::Rank rank);

  // Every rank's next submit or wait throws Cancelled, for good. From any thread.
  void cancel();
  bool cancelled() const { return cancelled_.load(); }

 private:
  class Endpoint;
  struct Operation;

  std::shared_ptr<Operation> join(const OperationKey& key, std::vector<plan::Rank> members);
  void wake(const Operation& operation, plan::Rank except);

  Gpu& gpu_;
  EventPool& events_;
  std::mutex mutex_;                                         // of operations
  std::map<OperationKey, std::shared_ptr<Operation>> open_;  // that not all members have posted
  std::atomic<bool> cancelled_{false};
  std::vector<std::unique_ptr<Endpoint>> endpoints_;  // by rank
};

}  // namespace foretrain::exec
