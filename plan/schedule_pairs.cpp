// Which forwards run as one with the backward behind them.
#include <set>
#include <tuple>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

// (virtual stage, is forward, microbatch)
using Output = std::tuple<std::int32_t, bool, std::int32_t>;

bool is_pair(const Action& a, const Action& b) {
  return a.kind == ActionKind::forward && b.kind == ActionKind::backward &&
         (a.stage != b.stage || a.microbatch != b.microbatch);
}

struct Run {
  const Schedule& s;
  int stages;
  std::vector<std::vector<bool>>& pairs;
  std::vector<std::size_t> next;
  std::set<Output> done;

  bool ready(const Action& a) const {
    if (a.kind == ActionKind::backward_weight) {
      return true;
    }
    const bool is_forward = a.kind == ActionKind::forward;
    return a.stage == (is_forward ? 0 : stages - 1) ||
           done.contains({a.stage + (is_forward ? -1 : 1), is_forward, a.microbatch});
  }
  void finish(std::size_t rank) {
    const Action& a = s[rank][next[rank]++];
    if (a.kind != ActionKind::backward_weight) {
      done.insert({a.stage, a.kind == ActionKind::forward, a.microbatch});
    }
  }
  // As far as the row goes; true if it went on.
  bool advance(std::size_t rank) {
    bool moved = false;
    for (; next[rank] < s[rank].size(); moved = true) {
      const std::size_t i = next[rank];
      if (!ready(s[rank][i]) || (pairs[rank][i] && !ready(s[rank][i + 1]))) {
        break;
      }
      for (int n = pairs[rank][i] ? 2 : 1; n > 0; --n) {
        finish(rank);
      }
    }
    return moved;
  }
};

}  // namespace

std::vector<std::vector<bool>> pairs(const Schedule& s, int stages) {
  std::vector<std::vector<bool>> result;
  for (const std::vector<Action>& row : s) {
    std::vector<bool>& of_row = result.emplace_back(row.size(), false);
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      of_row[i] = (i == 0 || !of_row[i - 1]) && is_pair(row[i], row[i + 1]);
    }
  }
  Run run{s, stages, result, std::vector<std::size_t>(s.size(), 0), {}};
  for (;;) {
    bool moved = false, finished = true;
    for (std::size_t rank = 0; rank < s.size(); ++rank) {
      moved = run.advance(rank) || moved;
      finished = finished && run.next[rank] == s[rank].size();
    }
    if (finished) {
      return result;
    }
    // All wait: the first pair whose forward alone could run goes apart.
    std::size_t rank = 0;
    while (!moved && rank < s.size() &&
           !(run.next[rank] < s[rank].size() && result[rank][run.next[rank]] && run.ready(s[rank][run.next[rank]]))) {
      ++rank;
    }
    CHECK(moved || rank < s.size(), "{} rows wait for ever", s.size());
    if (!moved) {
      result[rank][run.next[rank]] = false;
    }
  }
}

}  // namespace foretrain::plan
