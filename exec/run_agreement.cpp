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
  stops_before,  // from process 0 to all: `step` and what follows must not begin
};

struct Note {
  Kind kind{};
  int step = 0;
  StepOutcome outcome;
};
static_assert(std::is_trivially_copyable_v<Note>, "it travels as its bytes");

std::string to_bytes(const Note& note) {
  return {reinterpret_cast<const char*>(&note), sizeof note};
}

}  // namespace

void RunAgreement::add(int step, const StepOutcome& outcome) {
  Ended& ended = ended_[step];
  ++ended.processes;
  // What no rank of a process reports is not a number there.
  ended.outcome.loss = std::isnan(ended.outcome.loss) ? outcome.loss : ended.outcome.loss;
  ended.outcome.grad_norm = std::isnan(ended.outcome.grad_norm) ? outcome.grad_norm : ended.outcome.grad_norm;
  ended.outcome.end = std::max(ended.outcome.end, outcome.end);
}

void RunAgreement::step_ended(int step, const StepOutcome& outcome) {
  add(step, outcome);
  if (processes_.number() != 0) {
    processes_.tell(0, to_bytes({Kind::step_ended, step, outcome}));
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
    stop_all();
  } else if (!is_stopping_) {
    is_stopping_ = true;
    processes_.tell(0, to_bytes({Kind::asks_to_stop, 0, {}}));
  }
}

// A rank can be a step ahead of those here: it may have begun the next.
void RunAgreement::stop_all() {
  if (is_stopping_) {
    return;
  }
  is_stopping_ = true;
  const int step = control_.begun() + (processes_.count() > 1 ? 1 : 0);
  for (int p = 1; p < processes_.count(); ++p) {
    processes_.tell(p, to_bytes({Kind::stops_before, step, {}}));
  }
  control_.stop_before(step);
}

void RunAgreement::listen() {
  processes_.check();
  while (const auto heard = processes_.hear()) {
    Note note;
    CHECK(heard->second.size() == sizeof note, "a note of {} bytes", heard->second.size());
    std::memcpy(&note, heard->second.data(), sizeof note);
    switch (note.kind) {
      case Kind::step_ended: add(note.step, note.outcome); break;
      case Kind::asks_to_stop: stop_all(); break;
      case Kind::stops_before:
        is_stopping_ = true;
        control_.stop_before(note.step);
        break;
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
