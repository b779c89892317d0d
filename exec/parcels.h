// Labelled bytes between processes of different hosts. The sender announces what it sends, so that the receiver may ask
// for parcels in any order and gets them straight into place.
#pragma once

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "exec/communicator.h"
#include "exec/processes.h"

namespace foretrain::exec {

// One piece of one part of one operation: unique between two processes while it is under way.
struct ParcelLabel {
  OperationKey key;
  std::int32_t part = 0, piece = 0;
  bool is_result = false;  // on its way back from the member that reduced it
  friend auto operator<=>(const ParcelLabel&, const ParcelLabel&) = default;
};

// For one thread.
class Parcels {
 public:
  // `channel`: of all that this process exchanges with others through this value; equal in all processes.
  Parcels(Processes& processes, int channel);
  ~Parcels();
  Parcels(const Parcels&) = delete;
  Parcels& operator=(const Parcels&) = delete;

  struct Transfer;
  // Memory must stay until done() has said true, which ends the transfer.
  Transfer* send(int to, const ParcelLabel& label, const void* data, std::int64_t bytes);
  Transfer* receive(int from, const ParcelLabel& label, void* data, std::int64_t bytes);
  bool done(Transfer* transfer);

  // Bytes of all that was sent to a process, without what is said about them. From any thread.
  std::int64_t sent(int to) const { return sent_[static_cast<std::size_t>(to)].load(std::memory_order_relaxed); }

  // Hears what others announce; true if anything was.
  bool listen();

 private:
  struct Announcement;
  Transfer& new_transfer();
  void take(Transfer& transfer, const Announcement& announcement);

  Processes& processes_;
  int channel_;
  std::vector<std::atomic<std::int64_t>> sent_;  // by process
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::vector<Transfer*> free_;
  std::map<std::pair<int, ParcelLabel>, Announcement> announced_;  // and not asked for
  std::map<std::pair<int, ParcelLabel>, Transfer*> expected_;      // asked for and not announced
};

}  // namespace foretrain::exec
