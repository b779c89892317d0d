#include "exec/run_control.h"

#include <algorithm>

namespace foretrain::exec {

RunControl::RunControl(int ranks, int first_step, int steps)
    : ranks_(ranks),
      first_step_(first_step),
      steps_(static_cast<std::size_t>(steps)),
      begun_(first_step),
      end_(first_step + steps) {}

bool RunControl::may_begin(int step) {
  std::unique_lock lock(mutex_);
  released_.wait(lock, [&] { return !is_held_ || step < begun_; });
  if (step >= std::max(begun_, end_)) {
    return false;
  }
  begun_ = std::max(begun_, step + 1);
  return true;
}

void RunControl::report_loss(int step, double loss) {
  const std::lock_guard lock(mutex_);
  at(step).outcome.loss = loss;
}

void RunControl::report_grad_norm(int step, double norm) {
  const std::lock_guard lock(mutex_);
  at(step).outcome.grad_norm = norm;
}

void RunControl::report_loss_scale(int step, double scale) {
  const std::lock_guard lock(mutex_);
  at(step).outcome.loss_scale = scale;
}

void RunControl::finish_step(int step, Time end) {
  {
    const std::lock_guard lock(mutex_);
    Step& s = at(step);
    s.outcome.end = std::max(s.outcome.end, end);
    if (++s.finished < ranks_) {
      return;
    }
  }
  changed_.notify_one();
}

void RunControl::end_rank(std::exception_ptr failure) {
  {
    const std::lock_guard lock(mutex_);
    ++ended_;
    if (failure && !failure_) {
      failure_ = std::move(failure);
    }
    if (failure_) {
      end_ = std::min(end_, begun_);
      is_held_ = false;
    }
  }
  changed_.notify_one();
  released_.notify_all();
}

int RunControl::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

int RunControl::hold() {
  const std::lock_guard lock(mutex_);
  is_held_ = true;
  return begun_;
}

void RunControl::stop_before(int step) {
  {
    const std::lock_guard lock(mutex_);
    end_ = std::min(end_, step);
    is_held_ = false;
  }
  released_.notify_all();
}

RunControl::Wait RunControl::wait_for_step(int done, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const auto has_ended = [&] {
    return done < static_cast<int>(steps_.size()) && steps_[static_cast<std::size_t>(done)].finished == ranks_;
  };
  changed_.wait_for(lock, limit, [&] { return has_ended() || ended_ == ranks_; });
  if (has_ended()) {
    return Wait::ended;
  }
  return ended_ == ranks_ ? Wait::absent : Wait::under_way;
}

StepOutcome RunControl::outcome(int done) const {
  const std::lock_guard lock(mutex_);
  return steps_[static_cast<std::size_t>(done)].outcome;
}

bool RunControl::all_ended() const {
  const std::lock_guard lock(mutex_);
  return ended_ == ranks_;
}

std::exception_ptr RunControl::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace foretrain::exec
