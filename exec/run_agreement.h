// What the processes of a run tell each other while steps go on: which have ended and with what, and where to stop.
#pragma once

#include <map>
#include <vector>

#include "exec/processes.h"
#include "exec/run_control.h"

namespace foretrain::exec {

// For the main thread of each process. Of a single process it only passes outcomes through.
class RunAgreement {
 public:
  // All processes make theirs together.
  RunAgreement(Processes& processes, RunControl& control);

  // This process's ranks have ended a step.
  void step_ended(int step, const StepOutcome& outcome);
  // Process 0 knows of a step's end in all processes that are not lost, the others of their own. `outcome` is of all
  // those.
  bool all_ended(int step, StepOutcome* outcome) const;

  // All shall stop, behind the last step that a rank of any has begun.
  void stop_soon();
  // Whether one of them has said so, as far as is known here.
  bool is_stopping() const { return is_stopping_; }
  // Hears what the others say. Throws EnvironmentError when one of them has failed or is gone.
  void listen();

 private:
  void add(int process, int step, const StepOutcome& outcome);
  void hold_all();
  void stop_if_all_hold();

  Processes& processes_;
  RunControl& control_;
  const int run_, end_;  // its number; behind the last step that it was to have
  std::map<int, StepOutcome> outcomes_;
  std::vector<int> ended_;    // by process: behind the last step that it has ended, as far as is known here
  std::map<int, int> begun_;  // by process, once it begins no other: the first step that none there has begun
  bool is_stopping_ = false, has_stopped_ = false;
};

// Values of every process, in order; all together.
std::vector<std::vector<double>> all_gather(Processes& processes, const std::vector<double>& values);

}  // namespace foretrain::exec
