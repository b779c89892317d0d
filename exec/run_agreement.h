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
  RunAgreement(Processes& processes, RunControl& control) : processes_(processes), control_(control) {}

  // This process's ranks have ended a step.
  void step_ended(int step, const StepOutcome& outcome);
  // Process 0 knows of a step's end in all processes, the others of their own. `outcome` is of all those.
  bool all_ended(int step, StepOutcome* outcome) const;

  // All shall stop after the steps that are under way.
  void stop_soon();
  // Hears what the others say. Throws EnvironmentError when one of them has failed or is gone.
  void listen();

 private:
  struct Ended {
    int processes = 0;
    StepOutcome outcome;
  };
  void add(int step, const StepOutcome& outcome);
  void stop_all();

  Processes& processes_;
  RunControl& control_;
  std::map<int, Ended> ended_;
  bool is_stopping_ = false;
};

// Values of every process, in order; all together.
std::vector<std::vector<double>> all_gather(Processes& processes, const std::vector<double>& values);

}  // namespace foretrain::exec
