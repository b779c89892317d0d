// What the ranks of a run and the thread that waits for them tell each other: which steps may begin, which have ended,
// and the first failure.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <vector>

#include "base/units.h"

namespace foretrain::exec {

// What one step gave; not a number where no rank reported it.
struct StepOutcome {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  double loss = kUnknown, grad_norm = kUnknown;
  double loss_scale = kUnknown;  // of the next step
  Time end;                      // of its last op, over the ranks that are counted
};

class RunControl {
 public:
  RunControl(int ranks, int first_step, int steps);

  // --- ranks ---
  // Whether this rank may begin the step; waits while a hold lasts.
  bool may_begin(int step);
  void report_loss(int step, double loss);
  void report_grad_norm(int step, double norm);
  void report_loss_scale(int step, double scale);
  void finish_step(int step, Time end);
  // The rank's thread is done; with the exception that ended it, if any.
  void end_rank(std::exception_ptr failure);

  // --- the waiting thread ---
  int end() const;  // steps before this one may begin
  // No step begins that no rank has begun already, until stop_before() says which may. Returns the first such step.
  int hold();
  // From this step on none may begin that no rank has begun already.
  void stop_before(int step);
  // Waits at most `limit` for step first_step + done to end, or for the last rank's end. A step that has ended is never
  // said to be absent.
  enum class Wait : std::uint8_t { ended, under_way, absent };
  Wait wait_for_step(int done, std::chrono::milliseconds limit);
  StepOutcome outcome(int done) const;
  std::exception_ptr failure() const;
  bool all_ended() const;  // the ranks' threads

 private:
  struct Step {
    StepOutcome outcome;
    int finished = 0;  // ranks
  };
  Step& at(int step) { return steps_[static_cast<std::size_t>(step - first_step_)]; }

  mutable std::mutex mutex_;
  std::condition_variable changed_, released_;  // for the waiting thread; for ranks
  const int ranks_, first_step_;
  std::vector<Step> steps_;
  int begun_, end_;  // steps before these have been begun by some rank, may begin
  bool is_held_ = false;
  int ended_ = 0;
  std::exception_ptr failure_;
};

}  // namespace foretrain::exec
