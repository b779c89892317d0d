// Runs a probe program round after round and keeps when each op ran.
#pragma once

#include <atomic>
#include <vector>

#include "exec/calibrate_program.h"

namespace foretrain::exec {

class ProbeSession {
 public:
  // On a GPU, or a core each; by several `processes` a GPU in each. All of it must outlive the session.
  explicit ProbeSession(const ProbeProgram& program, Gpu* gpu = nullptr, Processes* processes = nullptr)
      : program_(program), gpu_(gpu), processes_(processes) {}

  // Allocates the pools, runs the program once to warm up and `times` times that count, frees the pools. Throws
  // InterruptedCalibration (calibrate.h).
  void run(int times, const std::atomic<bool>* interrupted);

  // Over all runs. REQUIRES: there was one. Of several processes on number 0 only.
  // An op's time from its latest start to its latest end on any rank of a group that has it: the median.
  double op_seconds(int position) const;
  // Of several ops that are the same but for their addresses.
  double op_seconds(const std::vector<int>& positions) const;
  // Time of a stretch of ops that all ranks run at once over that of a stretch that rank 0 runs just before or after
  // while the others wait, at least 1: the median over runs, each against itself, since a core's own speed changes from
  // one second to the next with what else its hypervisor has to do; of runs that had no time stolen, where there are.
  // From the first rank's start to the last one's end: ranks of a step wait for the slowest.
  struct Stretch {
    int first = 0, last = 0;
  };
  // `together`: by rank.
  double slowdown(const std::vector<Stretch>& together, const Stretch& alone) const;
  // From an op's end to the next one's start, over all ops that lasted at least so long: the median; 0 of none.
  double gap_seconds(double at_least) const;
  // From one op's start to the next one's on the first rank, where each of these is on another stream than the one
  // before: the mean of each run, and the median of them.
  double spacing_seconds(int first, int last) const;
  // Of some of the first rank's ops, those that began and ended while it was at work on the others: their median time
  // over that of the same `alone`, at least 1; 0: there were none.
  double slowdown_beside(const std::vector<int>& ops, const std::vector<int>& others, int alone) const;

 private:
  struct Interval {
    double start = 0, end = 0;
  };
  using Run = std::vector<std::vector<Interval>>;  // by rank, position

  const ProbeProgram& program_;
  Gpu* const gpu_;
  Processes* const processes_;
  std::vector<Run> runs_;
  std::vector<bool> disturbed_;  // by run: more than topologies::kMostStolen of its time was stolen
};

}  // namespace foretrain::exec
