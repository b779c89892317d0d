#include <algorithm>
#include <map>
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

// Stages of one way, and its microbatches.
struct Ways {
  int stages = 1, microbatches = 0;

  bool begins(int stage) const { return stage % stages == 0; }
  bool ends(int stage) const { return (stage + 1) % stages == 0; }
  bool meet(const Unit& u) const { return microbatches > 0 && u.first / stages == u.second / microbatches; }
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

// Stages in range, each on one rank, `virtual_stages` on each. Returns the rank of each; without microbatches s % pp.
std::vector<std::int32_t> check_placement(const Schedule& s, int virtual_stages, int microbatches,
                                          const std::string& origin) {
  const int stages = static_cast<int>(s.size()) * virtual_stages;
  std::vector<std::int32_t> rank_of_stage(static_cast<std::size_t>(stages), -1);
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    int held = 0;
    for (std::size_t i = 0; i < s[rank].size(); ++i) {
      const Action& a = s[rank][i];
      if (a.stage < 0 || a.stage >= stages) {
        refuse(origin, rank, i, a, fmt::format("there is no virtual stage {}; expected 0 to {}", a.stage, stages - 1));
      }
      std::int32_t& place = rank_of_stage[static_cast<std::size_t>(a.stage)];
      if (place < 0) {
        place = static_cast<std::int32_t>(rank);
        ++held;
      }
      if (place != static_cast<std::int32_t>(rank)) {
        refuse(origin, rank, i, a, fmt::format("virtual stage {} is on rank {}; each is on one rank", a.stage, place));
      }
      if (held > virtual_stages) {
        refuse(
            origin, rank, i, a,
            fmt::format("this is the rank's virtual stage number {}; expected {} on each rank", held, virtual_stages));
      }
    }
  }
  for (int stage = 0; stage < stages && microbatches > 0; ++stage) {
    if (rank_of_stage[static_cast<std::size_t>(stage)] < 0) {
      throw InputError(fmt::format("{}: no row has virtual stage {}; expected 0 to {}", origin, stage, stages - 1));
    }
  }
  return placement(s, stages);
}

// The rules of one row: microbatches in range, each forward once and each backward once after it.
void check_row(const Schedule& s, std::size_t rank, const std::vector<std::int32_t>& rank_of_stage, int microbatches,
               const Ways& ways, const std::string& origin) {
  const int stages = static_cast<int>(rank_of_stage.size());
  UnitSet forwards(stages, microbatches), backwards(stages, microbatches);
  UnitSet inputs(stages, microbatches);  // backwards that still lack their weight gradient
  for (std::size_t i = 0; i < s[rank].size(); ++i) {
    const Action& a = s[rank][i];
    const Unit unit{a.stage, a.microbatch};
    if (a.microbatch < 0 || a.microbatch >= microbatches) {
      refuse(origin, rank, i, a,
             fmt::format("there is no microbatch {}; expected 0 to {}", a.microbatch, microbatches - 1));
    }
    if (!ways.meet(unit)) {
      refuse(origin, rank, i, a,
             fmt::format("microbatch {} goes the other way, not through stage {}", a.microbatch, a.stage));
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
  for (int stage = 0; stage < stages; ++stage) {
    for (int m = 0; m < microbatches && rank_of_stage[static_cast<std::size_t>(stage)] == static_cast<int>(rank); ++m) {
      if (!ways.meet({stage, m})) {
        continue;
      }
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
Action predecessor(const Action& a, const Ways& ways) {
  const bool is_forward = a.kind == ActionKind::forward;
  if (a.kind == ActionKind::backward_weight || (is_forward ? ways.begins(a.stage) : ways.ends(a.stage))) {
    return {-1, a.kind, a.microbatch};
  }
  return is_forward ? forward(a.stage - 1, a.microbatch) : backward(a.stage + 1, a.microbatch);
}

// The stage that takes what an action leaves; -1 where none does.
int successor(const Action& a, const Ways& ways) {
  const bool is_forward = a.kind == ActionKind::forward;
  if (a.kind == ActionKind::backward_weight || (is_forward ? ways.ends(a.stage) : ways.begins(a.stage))) {
    return -1;
  }
  return is_forward ? a.stage + 1 : a.stage - 1;
}

// Runs the rows: an action runs when its row has come to it and its predecessor is done. What is left cannot run.
void check_progress(const Schedule& s, const std::vector<std::int32_t>& rank_of_stage, int microbatches,
                    const Ways& ways, const std::string& origin) {
  const int stages = static_cast<int>(rank_of_stage.size());
  UnitSet done_forward(stages, microbatches), done_backward(stages, microbatches);
  std::vector<std::size_t> next(s.size(), 0);
  const auto ready = [&](const Action& a) {
    const Action p = predecessor(a, ways);
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
      const Action p = predecessor(a, ways);
      refuse(origin, rank, next[rank], a,
             fmt::format("deadlock: it waits for {} of rank {}, which never comes to it", to_text(p),
                         rank_of_stage[static_cast<std::size_t>(p.stage)]));
    }
  }
}

// Messages of one direction from one rank to another, and how many of them were taken.
struct Link {
  std::int32_t from = 0;
  bool is_forward = false;
  std::vector<Unit> sent;
  std::size_t taken = 0;
};

// Those of a receiving rank: it has a few neighbours.
Link& link_of(std::vector<Link>& links, std::int32_t from, bool is_forward) {
  const auto known = std::find_if(links.begin(), links.end(),
                                  [&](const Link& l) { return l.from == from && l.is_forward == is_forward; });
  return known != links.end() ? *known : links.emplace_back(Link{from, is_forward, {}, 0});
}

// Messages of one direction between two ranks travel in order: what a rank sends as its k-th, its neighbour takes as
// its k-th.
void check_order(const Schedule& s, const std::vector<std::int32_t>& rank_of_stage, const Ways& ways,
                 const std::string& origin) {
  std::vector<std::vector<Link>> links(s.size());  // by receiving rank
  for (std::size_t from = 0; from < s.size(); ++from) {
    for (const Action& a : s[from]) {
      const int to = successor(a, ways);
      if (to >= 0) {
        const auto rank = static_cast<std::size_t>(rank_of_stage[static_cast<std::size_t>(to)]);
        link_of(links[rank], static_cast<std::int32_t>(from), a.kind == ActionKind::forward)
            .sent.emplace_back(to, a.microbatch);
      }
    }
  }
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    for (std::size_t i = 0; i < s[rank].size(); ++i) {
      const Action& a = s[rank][i];
      const Action p = predecessor(a, ways);
      if (a.kind == ActionKind::backward_weight || p.stage < 0) {
        continue;
      }
      const bool is_forward = a.kind == ActionKind::forward;
      Link& link = link_of(links[rank], rank_of_stage[static_cast<std::size_t>(p.stage)], is_forward);
      const Unit first = link.sent[link.taken++];
      if (first != Unit{a.stage, a.microbatch} && link.from != static_cast<std::int32_t>(rank)) {
        const Action other = is_forward ? forward(first.first, first.second) : backward(first.first, first.second);
        refuse(origin, rank, i, a,
               fmt::format(
                   "deadlock: rank {} sends the input of {} first, and messages between two ranks keep their order",
                   link.from, to_text(other)));
      }
    }
  }
}

// Between two stages of one rank there is room for one activation and for one gradient.
void check_hand_over(const Schedule& s, const std::vector<std::int32_t>& rank_of_stage, const Ways& ways,
                     const std::string& origin) {
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    std::map<std::pair<int, bool>, Action> waiting;  // by the stage that takes it, and direction
    for (std::size_t i = 0; i < s[rank].size(); ++i) {
      const Action& a = s[rank][i];
      if (a.kind == ActionKind::backward_weight) {
        continue;
      }
      const bool is_forward = a.kind == ActionKind::forward;
      waiting.erase({a.stage, is_forward});
      const int to = successor(a, ways);
      if (to < 0 || rank_of_stage[static_cast<std::size_t>(to)] != static_cast<std::int32_t>(rank)) {
        continue;
      }
      const auto [other, free] = waiting.emplace(std::pair{to, is_forward}, a);
      if (!free) {
        refuse(origin, rank, i, a,
               fmt::format("stage {} has not taken what {} left; between two stages of a rank one waits at a time", to,
                           to_text(other->second)));
      }
    }
  }
}

}  // namespace

void check(const Schedule& s, int pp, int virtual_stages, int microbatches, const std::string& origin, int ways) {
  if (s.size() != static_cast<std::size_t>(pp)) {
    throw InputError(fmt::format("{}: {} rows; expected one per pipeline rank: {}", origin, s.size(), pp));
  }
  const std::vector<std::int32_t> rank_of_stage = check_placement(s, virtual_stages, microbatches, origin);
  const Ways each{pp * virtual_stages / ways, microbatches / ways};
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    check_row(s, rank, rank_of_stage, microbatches, each, origin);
  }
  check_order(s, rank_of_stage, each, origin);
  check_progress(s, rank_of_stage, microbatches, each, origin);
  check_hand_over(s, rank_of_stage, each, origin);
}

}  // namespace foretrain::plan
