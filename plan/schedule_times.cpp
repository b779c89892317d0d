#include "plan/schedule_times.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "base/error.h"

namespace foretrain::plan {

namespace {

// What an action leaves for the next stage: (stage, is forward, microbatch). A weight gradient leaves nothing.
using Output = std::tuple<std::int32_t, bool, std::int32_t>;

std::optional<Output> input(const Action& a, std::int32_t length) {
  const bool is_forward = a.kind == ActionKind::forward;
  if (a.kind == ActionKind::backward_weight || a.stage % length == (is_forward ? 0 : length - 1)) {
    return std::nullopt;
  }
  return Output{a.stage + (is_forward ? -1 : 1), is_forward, a.microbatch};
}

}  // namespace

std::int64_t Durations::of(ActionKind kind) const {
  return kind == ActionKind::forward          ? forward
         : kind == ActionKind::backward       ? backward
         : kind == ActionKind::backward_input ? backward_input
                                              : backward_weight;
}

ScheduleTimes times(const Schedule& s, const Durations& durations, int ways) {
  std::int32_t last_stage = 0;
  for (const std::vector<Action>& row : s) {
    for (const Action& a : row) {
      last_stage = std::max(last_stage, a.stage);
    }
  }
  ScheduleTimes t{std::vector<std::vector<std::int64_t>>(s.size()), std::vector<std::int64_t>(s.size(), 0), 0};
  std::map<Output, std::int64_t> done;  // by output, when it is there
  std::vector<std::int64_t> clock(s.size(), 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t rank = 0; rank < s.size(); ++rank) {
      std::vector<std::int64_t>& start = t.start[rank];
      for (; start.size() < s[rank].size(); moved = true) {
        const Action& a = s[rank][start.size()];
        std::int64_t begin = clock[rank];
        if (const auto from = input(a, (last_stage + 1) / ways)) {
          const auto there = done.find(*from);
          if (there == done.end()) {
            break;
          }
          begin = std::max(begin, there->second);
        }
        t.waits[rank] += start.empty() ? 0 : begin - clock[rank];
        start.push_back(begin);
        clock[rank] = begin + durations.of(a.kind);
        if (a.kind != ActionKind::backward_weight) {
          done[{a.stage, a.kind == ActionKind::forward, a.microbatch}] = clock[rank];
        }
      }
    }
  }
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    CHECK(t.start[rank].size() == s[rank].size(), "pipeline rank {} waits for ever", rank);
    t.makespan = std::max(t.makespan, clock[rank]);
  }
  return t;
}

}  // namespace foretrain::plan
