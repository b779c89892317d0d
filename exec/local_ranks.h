// The ranks of a run that live in this process: a thread for each while they work, and what the main thread does
// meanwhile.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "exec/executor.h"
#include "exec/gpu_ranks.h"
#include "exec/last_state.h"
#include "exec/pieces.h"
#include "exec/rank.h"
#include "exec/run_control.h"
#include "exec/world.h"

namespace foretrain::exec {

class LocalRanks {
 public:
  // All processes make theirs together, and the same calls of prepare() and carry_out(). What is given must outlive it.
  // Without a GPU ranks are on the CPU. Throws InfeasibleError when memory is lacking.
  LocalRanks(const plan::PlanGraph& graph, const DataSource& data, Processes& processes, Gpu* gpu);

  // Makes arenas and parameters.
  void prepare(std::uint64_t seed);
  // Has every rank do its assignment, and waits. The result is process 0's, and what all together hold, in every
  // process. Throws as Executor::run() does.
  RunResult carry_out(RankRunner::Assignment assignment);
  // Ranks have stopped at different places: nothing can be carried out any more.
  bool is_broken() const { return is_broken_; }

  const std::vector<std::unique_ptr<RankRunner>>& ranks() const { return ranks_; }
  std::vector<RankMemory> memory() const;

 private:
  std::unique_ptr<QueuedDevice> device(plan::Rank rank);
  // Of the arena of a rank that lives on this host: what its memory plan has, and behind that of the first one what the
  // host keeps of its data.
  Bytes arena_of(plan::Rank rank) const;
  std::unique_ptr<const DataCache> make_cache(const DataSource& data, int first_step) const;
  // nullptr: the rank lives elsewhere.
  RankRunner* runner(plan::Rank rank) const;
  // Runs fn(rank) on a thread each and joins them all.
  template <class Fn>
  void on_all_ranks(const Fn& fn);
  // Ends the ranks on this host.
  void cancel();
  // And those here that are held.
  void cancel(RunControl& control);
  // Waits for the ranks, step by step; true if the run was cut off.
  bool watch(RunControl& control, Time start, const RankRunner::Assignment& assignment, RunResult& result);
  // By process, from here, so far.
  std::vector<double> sent() const;
  void agree(const std::vector<double>& sent_before, RunResult& result);
  // Of a run that has failed: lets its keeper know what the replicas of servers hold, if there are some. Threads may
  // have ended.
  LastState last_state(RunControl& control, const RankRunner::Assignment& assignment);
  // They have.
  void keep_last(const LastState& last, const RankRunner::Assignment& assignment) const;
  // And throws it.
  [[noreturn]] void tell_others(const std::exception_ptr& failure);

  const plan::PlanGraph& graph_;
  Processes& processes_;
  World world_;
  plan::Rank first_near_ = 0;  // of the ranks on this host
  Bytes cache_bytes_;
  std::unique_ptr<const DataCache> cache_;  // from the first step on
  std::unique_ptr<GpuRanks> gpu_ranks_;
  std::vector<std::unique_ptr<RankRunner>> ranks_;
  std::vector<int> replica_processes_;  // in which replicas of servers live, ascending
  bool is_broken_ = false;
};

}  // namespace foretrain::exec
