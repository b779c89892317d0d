#include "exec/run_agreement.h"

#include <cmath>
#include <cstring>
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
    : processes_(processes), control_(control), run_(processes.next_run()), end_(control.end()) {}

void RunAgreement::add(int process, int step, const StepOutcome& outcome) {
  Ended& ended = ended_[step];
  ++ended.processes;
  // What no rank of a process reports is not a number there.
  ended.outcome.loss = std::isnan(ended.outcome.loss) ? outcome.loss : ended.outcome.loss;
  ended.outcome.grad_norm = std::isnan(ended.outcome.grad_norm) ? outcome.grad_norm : ended.outcome.grad_norm;
  ended.outcome.loss_scale = std::isnan(ended.outcome.loss_scale) ? outcome.loss_scale : ended.outcome.loss_scale;
  ended.outcome.end = std::max(ended.outcome.end, outcome.end);
  if (step + 1 == end_) {
    add_begun(process, end_);  // it may not hear a hold any more
  }
}

void RunAgreement::step_ended(int step, const StepOutcome& outcome) {
  add(processes_.number(), step, outcome);
  if (processes_.number() != 0) {
    processes_.tell(0, to_bytes({Kind::step_ended, run_, step, outcome}));
  }
}

bool RunAgreement::all_ended(int step, StepOutcome* outcome) const {
  const auto ended = ended_.find(step);
  if (ended == ended_.end() || ended->second.processes < (processes_.number() == 0 ? processes_.count() : 1)) {
    return false;
  }
  *outcome = ended->second.outcome;
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
  add_begun(0, control_.hold());
}

void RunAgreement::add_begun(int process, int step) {
  const bool is_new = begun_.try_emplace(process, step).second;
  if (!is_stopping_ || !is_new || static_cast<int>(begun_.size()) < processes_.count()) {
    return;
  }
  int last = 0;
  for (const auto& [of_process, begun] : begun_) {
    last = std::max(last, begun);
  }
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
      case Kind::begun: add_begun(heard->first, note.step); break;
      case Kind::stops_before: control_.stop_before(note.step); break;
    }
  }
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
