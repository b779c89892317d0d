#include "exec/run_agreement.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/error.h"

namespace foretrain::exec {

namespace {

enum class Kind : std::uint8_t {
  step_ended,    // to process 0
  asks_to_stop,  // to process 0
  holds,         // from process 0 to all: begin no other step, and say which is the first that nobody has begun
  begun,         // to process 0: `step` is that
  stops_before,  // from process 0 to all: `step` and what follows must not begin
};

struct Note {
  Kind kind{};
  int run = 0;  // one that comes late is not meant for the next
  int step = 0;
  StepOutcome outcome;
};
static_assert(std::is_trivially_copyable_v<Note>, "it travels as its bytes");

std::string to_bytes(const Note& note) {
  return {reinterpret_cast<const char*>(&note), sizeof note};
}

}  // namespace

RunAgreement::RunAgreement(Processes& processes, RunControl& control)
    : processes_(processes),
      control_(control),
      run_(processes.next_run()),
      end_(control.end()),
      ended_(static_cast<std::size_t>(processes.count()), std::numeric_limits<int>::min()) {}

void RunAgreement::add(int process, int step, const StepOutcome& outcome) {
  StepOutcome& all = outcomes_[step];
  // What no rank of a process reports is not a number there.
  all.loss = std::isnan(all.loss) ? outcome.loss : all.loss;
  all.grad_norm = std::isnan(all.grad_norm) ? outcome.grad_norm : all.grad_norm;
  all.loss_scale = std::isnan(all.loss_scale) ? outcome.loss_scale : all.loss_scale;
  all.end = std::max(all.end, outcome.end);
  ended_[static_cast<std::size_t>(process)] = step + 1;
  if (step + 1 == end_) {
    begun_.try_emplace(process, end_);  // it may not hear a hold any more
    stop_if_all_hold();
  }
}

void RunAgreement::step_ended(int step, const StepOutcome& outcome) {
  add(processes_.number(), step, outcome);
  if (processes_.number() != 0) {
    processes_.tell(0, to_bytes({Kind::step_ended, run_, step, outcome}));
  }
}

bool RunAgreement::all_ended(int step, StepOutcome* outcome) const {
  for (int p = 0; p < processes_.count(); ++p) {
    const bool counts = p == processes_.number() || (processes_.number() == 0 && !processes_.is_lost(p));
    if (counts && ended_[static_cast<std::size_t>(p)] <= step) {
      return false;
    }
  }
  *outcome = outcomes_.at(step);
  return true;
}

void RunAgreement::stop_soon() {
  if (processes_.number() == 0) {
    hold_all();
  } else if (!is_stopping_) {
    is_stopping_ = true;
    processes_.tell(0, to_bytes({Kind::asks_to_stop, run_, 0, {}}));
  }
}

// Ranks enqueue ahead of each other, by however many steps their windows hold: where all can end is known only while
// none begins another.
void RunAgreement::hold_all() {
  if (is_stopping_) {
    return;
  }
  is_stopping_ = true;
  for (int p = 1; p < processes_.count(); ++p) {
    processes_.tell(p, to_bytes({Kind::holds, run_, 0, {}}));
  }
  begun_.try_emplace(0, control_.hold());
  stop_if_all_hold();
}

// A lost process may have got further than was heard of it: by the step that was under way, and by one whose end it
// could not tell any more.
void RunAgreement::stop_if_all_hold() {
  if (!is_stopping_ || has_stopped_ || processes_.number() != 0) {
    return;
  }
  int last = 0;
  for (int p = 0; p < processes_.count(); ++p) {
    const auto begun = begun_.find(p);
    if (begun == begun_.end() && !processes_.is_lost(p)) {
      return;
    }
    last = std::max(last, begun != begun_.end() ? begun->second : ended_[static_cast<std::size_t>(p)] + 2);
  }
  has_stopped_ = true;
  last = std::min(last, end_);
  for (int p = 1; p < processes_.count(); ++p) {
    processes_.tell(p, to_bytes({Kind::stops_before, run_, last, {}}));
  }
  control_.stop_before(last);
}

void RunAgreement::listen() {
  processes_.check();
  while (const auto heard = processes_.hear()) {
    Note note;
    CHECK(heard->second.size() == sizeof note, "a note of {} bytes", heard->second.size());
    std::memcpy(&note, heard->second.data(), sizeof note);
    if (note.run != run_) {
      continue;
    }
    switch (note.kind) {
      case Kind::step_ended: add(heard->first, note.step, note.outcome); break;
      case Kind::asks_to_stop: hold_all(); break;
      case Kind::holds:
        is_stopping_ = true;
        processes_.tell(0, to_bytes({Kind::begun, run_, control_.hold(), {}}));
        break;
      case Kind::begun: begun_.try_emplace(heard->first, note.step); break;
      case Kind::stops_before: control_.stop_before(note.step); break;
    }
  }
  stop_if_all_hold();
}

std::vector<std::vector<double>> all_gather(Processes& processes, const std::vector<double>& values) {
  std::vector<std::vector<double>> all;
  const std::string mine =
      values.empty() ? "" : std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  for (const std::string& bytes : processes.all_gather(mine)) {
    all.emplace_back(bytes.size() / sizeof(double));
    if (!bytes.empty()) {
      std::memcpy(all.back().data(), bytes.data(), bytes.size());
    }
  }
  return all;
}

}  // namespace foretrain::exec
