// What the ranks of a host keep of the data that they read, in memory that all of them see (plan/reading.h has the
// rule): the first sequences from the first step on, in order of step, rank along dp and microbatch. What is kept
// follows from that order, and not from who comes first, so that a run counts what a forecast does; who comes before
// the one that keeps it reads for himself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "exec/executor.h"

namespace foretrain::exec {

class DataCache : public DataSource {
 public:
  // Of memory; none where the graph's data is not to be kept.
  static Bytes size(const plan::PlanGraph& graph, const DataSource& data);

  // `data_ranks`: whose sequences are read on this host, by coordinate along dp, ascending. `memory` was zeroed, and is
  // the same for all of the host's processes. All outlive it.
  DataCache(const plan::PlanGraph& graph, const DataSource& data, std::vector<std::int32_t> data_ranks, int first_step,
            std::byte* memory);

  // As the data has them, of memory where they lie there; to be kept where they are among those that are.
  void sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const override;
  Sample sample(std::int64_t step, std::int64_t index_in_batch) const override;

  // Whether it was read in an epoch before, and kept.
  bool has(std::int64_t step, std::int64_t index_in_batch) const;

 private:
  using State = std::atomic<std::uint32_t>;
  struct Kept {
    std::size_t number = 0;
    std::int64_t epoch = 0;  // in which it was read first
  };
  std::optional<Kept> find(std::int64_t step, std::int64_t index_in_batch) const;
  void go_to(std::int64_t step) const;
  State& state(std::size_t number) const { return reinterpret_cast<State*>(memory_)[number]; }
  std::byte* content(std::size_t number) const { return memory_ + first_ + number * each_; }
  // Calls write(content), once among all who do.
  template <class Fn>
  void keep(std::size_t number, const Fn& write) const;

  const plan::PlanGraph& graph_;
  const DataSource& data_;
  const std::vector<std::int32_t> data_ranks_;
  std::byte* const memory_;
  const std::size_t most_, first_, each_;
  mutable std::mutex mutex_;                             // of what follows
  mutable std::unordered_map<std::int64_t, Kept> kept_;  // by item
  mutable std::int64_t next_step_;                       // of those before all are known
};

}  // namespace foretrain::exec
