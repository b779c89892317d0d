// Runs a probe program round after round and keeps the time of every op.
#pragma once

#include <atomic>
#include <vector>

#include "exec/calibrate_program.h"

namespace foretrain::exec {

// Throws InterruptedCalibration (calibrate.h) when interrupted.
class ProbeSession {
 public:
  // `program` must outlive the session. Steps of each round before the one that counts: `warm_up`.
  ProbeSession(const ProbeProgram& program, int warm_up, const std::atomic<bool>* interrupted);

  // Allocates the pools, runs one round, frees them.
  void run_round();

  // The lower quartile over rounds of what `seconds` makes of one round: bursts of others' work on the machine only
  // ever add time.
  double of_op(int position) const;          // latest end - latest start over ranks
  double of_run(int first, int last) const;  // from the first op's start to the last one's end, mean over ranks
  std::vector<double> gaps(int first, int last) const;  // from each op's end to the next one's start, all ranks, rounds

 private:
  struct Interval {
    double start = 0, end = 0;
  };
  using Round = std::vector<std::vector<Interval>>;  // by rank, position

  const ProbeProgram& program_;
  int warm_up_;
  const std::atomic<bool>* interrupted_;
  std::vector<Round> rounds_;
};

// Value below which a quarter of the values lie. REQUIRES: not empty.
double lower_quartile(std::vector<double> values);

}  // namespace foretrain::exec
