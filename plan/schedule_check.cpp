#include <utility>
#include <vector>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

using Unit = std::pair<std::int32_t, std::int32_t>;  // (virtual stage, microbatch)

// A set of units. REQUIRES: stage and microbatch in range.
class UnitSet {
 public:
  UnitSet(int stages, int microbatches)
      : microbatches_(microbatches),
        flags_(static_cast<std::size_t>(stages) * static_cast<std::size_t>(microbatches)) {}
  bool contains(const Unit& u) const { return flags_[index(u)]; }
  // True iff the set has changed.
  bool insert(const Unit& u) { return !std::exchange(flags_[index(u)], 1); }
  bool erase(const Unit& u) { return std::exchange(flags_[index(u)], 0) != 0; }

 private:
  std::size_t index(const Unit& u) const {
    return static_cast<std::size_t>(u.first) * static_cast<std::size_t>(microbatches_) +
           static_cast<std::size_t>(u.second);
  }
  int microbatches_;
  std::vector<char> flags_;
};

Action forward(int stage, int microbatch) {
  return {stage, ActionKind::forward, microbatch};
}

Action backward(int stage, int microbatch) {
  return {stage, ActionKind::backward, microbatch};
}

[[noreturn]] void refuse(const std::string& origin, std::size_t rank, std::size_t i, const Action& a,
                         const std::string& what) {
  throw InputError(fmt::format("{}: pipeline rank {}, action {} ({}): {}", origin, rank, i + 1, to_text(a), what));
}

// The rules of one row: its own stages, microbatches in range, each forward once and each backward once after it.
void check_row(const Schedule& s, std::size_t rank, int pp, int virtual_stages, int microbatches,
               const std::string& origin) {
  const int stages = pp * virtual_stages;
  UnitSet forwards(stages, microbatches), backwards(stages, microbatches);
  UnitSet inputs(stages, microbatches);  // backwards that still lack their weight gradient
  for (std::size_t i = 0; i < s[rank].size(); ++i) {
    const Action& a = s[rank][i];
    const Unit unit{a.stage, a.microbatch};
    if (a.stage < 0 || a.stage >= stages) {
      refuse(origin, rank, i, a, fmt::format("there is no virtual stage {}; expected 0 to {}", a.stage, stages - 1));
    }
    if (a.stage % pp != static_cast<int>(rank)) {
      refuse(origin, rank, i, a,
             fmt::format("virtual stage {} belongs to rank {} ({} modulo {})", a.stage, a.stage % pp, a.stage, pp));
    }
    if (a.microbatch < 0 || a.microbatch >= microbatches) {
      refuse(origin, rank, i, a,
             fmt::format("there is no microbatch {}; expected 0 to {}", a.microbatch, microbatches - 1));
    }
    if (a.kind == ActionKind::forward) {
      if (!forwards.insert(unit)) {
        refuse(origin, rank, i, a, "this forward stands twice");
      }
      continue;
    }
    if (!forwards.contains(unit)) {
      refuse(origin, rank, i, a, fmt::format("stands before its forward {}", to_text(forward(a.stage, a.microbatch))));
    }
    if (a.kind == ActionKind::backward_weight) {
      if (!inputs.erase(unit)) {
        refuse(origin, rank, i, a,
               fmt::format("a weight gradient needs {} before it, once",
                           to_text({a.stage, ActionKind::backward_input, a.microbatch})));
      }
      continue;
    }
    if (!backwards.insert(unit)) {
      refuse(origin, rank, i, a, "this backward stands twice");
    }
    if (a.kind == ActionKind::backward_input) {
      inputs.insert(unit);
    }
  }
  for (int stage = static_cast<int>(rank); stage < stages; stage += pp) {
    for (int m = 0; m < microbatches; ++m) {
      const bool has_forward = forwards.contains({stage, m});
      const bool has_backward = backwards.contains({stage, m});
      if (!has_forward || !has_backward || inputs.contains({stage, m})) {
        const Action missing = !has_forward    ? forward(stage, m)
                               : !has_backward ? backward(stage, m)
                                               : Action{stage, ActionKind::backward_weight, m};
        throw InputError(fmt::format("{}: pipeline rank {} lacks {}", origin, rank, to_text(missing)));
      }
    }
  }
}

// The action of another row that an action takes its input from; stage -1 when there is none.
Action predecessor(const Action& a, int stages) {
  if (a.kind == ActionKind::forward) {
    return forward(a.stage - 1, a.microbatch);
  }
  if (a.kind == ActionKind::backward_weight || a.stage + 1 == stages) {
    return {-1, a.kind, a.microbatch};
  }
  return backward(a.stage + 1, a.microbatch);
}

// Runs the rows: an action runs when its row has come to it and its predecessor is done. What is left cannot run.
void check_progress(const Schedule& s, int stages, int microbatches, const std::string& origin) {
  UnitSet done_forward(stages, microbatches), done_backward(stages, microbatches);
  std::vector<std::size_t> next(s.size(), 0);
  const auto ready = [&](const Action& a) {
    const Action p = predecessor(a, stages);
    return p.stage < 0 ||
           (p.kind == ActionKind::forward ? done_forward : done_backward).contains({p.stage, p.microbatch});
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t rank = 0; rank < s.size(); ++rank) {
      for (; next[rank] < s[rank].size() && ready(s[rank][next[rank]]); ++next[rank], moved = true) {
        const Action& a = s[rank][next[rank]];
        if (a.kind != ActionKind::backward_weight) {
          (a.kind == ActionKind::forward ? done_forward : done_backward).insert({a.stage, a.microbatch});
        }
      }
    }
  }
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    if (next[rank] < s[rank].size()) {
      const Action& a = s[rank][next[rank]];
      const Action p = predecessor(a, stages);
      refuse(origin, rank, next[rank], a,
             fmt::format("deadlock: it waits for {} of rank {}, which never comes to it", to_text(p),
                         static_cast<std::size_t>(p.stage) % s.size()));
    }
  }
}

// Messages of one direction between two ranks travel in order: what a rank sends as its k-th, its neighbour takes as
// its k-th. Activations go to the next rank, gradients to the one before.
void check_order(const Schedule& s, int stages, const std::string& origin) {
  const std::size_t pp = s.size();
  for (const bool is_forward : {true, false}) {
    for (std::size_t rank = 0; rank < pp && pp > 1; ++rank) {
      const std::size_t from = is_forward ? (rank + pp - 1) % pp : (rank + 1) % pp;
      std::vector<Unit> sent;
      for (const Action& a : s[from]) {
        const int to = is_forward ? a.stage + 1 : a.stage - 1;
        if (a.kind != ActionKind::backward_weight && (a.kind == ActionKind::forward) == is_forward && to >= 0 &&
            to < stages) {
          sent.emplace_back(to, a.microbatch);
        }
      }
      std::size_t taken = 0;
      for (std::size_t i = 0; i < s[rank].size(); ++i) {
        const Action& a = s[rank][i];
        if (a.kind == ActionKind::backward_weight || (a.kind == ActionKind::forward) != is_forward ||
            predecessor(a, stages).stage < 0) {
          continue;
        }
        if (sent[taken] != Unit{a.stage, a.microbatch}) {
          const Action first = is_forward ? forward(sent[taken].first, sent[taken].second)
                                          : backward(sent[taken].first, sent[taken].second);
          refuse(origin, rank, i, a,
                 fmt::format(
                     "deadlock: rank {} sends the input of {} first, and messages between two ranks keep their order",
                     from, to_text(first)));
        }
        ++taken;
      }
    }
  }
}

}  // namespace

void check(const Schedule& s, int pp, int virtual_stages, int microbatches, const std::string& origin) {
  if (s.size() != static_cast<std::size_t>(pp)) {
    throw InputError(fmt::format("{}: {} rows; expected one per pipeline rank: {}", origin, s.size(), pp));
  }
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    check_row(s, rank, pp, virtual_stages, microbatches, origin);
  }
  check_order(s, pp * virtual_stages, origin);
  check_progress(s, pp * virtual_stages, microbatches, origin);
}

}  // namespace foretrain::plan
