// Schedules of Qi et al. 2023, "Zero Bubble Pipeline Parallelism" (H1, H2: section 2; V: section 6): backwards in two
// halves. Only the input gradient (I) is on the way between ranks; weight gradients (W) fill what would be bubble. V is
// in the order of the authors' code (get_zb_v_schedule), which PyTorch's ScheduleZBVZeroBubble has too.
#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

// `ahead` forwards first, then one forward and one input gradient in turn; a weight gradient `lag` input gradients
// after its own. So at most ahead + 1 + lag microbatches wait for their weight gradient.
std::vector<Action> split_row(int stage, int microbatches, int ahead, int lag) {
  std::vector<Action> row;
  int forwards = 0, weights = 0;
  for (; forwards < std::min(ahead, microbatches); ++forwards) {
    row.push_back({stage, ActionKind::forward, forwards});
  }
  for (int m = 0; m < microbatches; ++m) {
    if (forwards < microbatches) {
      row.push_back({stage, ActionKind::forward, forwards++});
    }
    row.push_back({stage, ActionKind::backward_input, m});
    if (m >= lag) {
      row.push_back({stage, ActionKind::backward_weight, weights++});
    }
  }
  for (; weights < microbatches; ++weights) {
    row.push_back({stage, ActionKind::backward_weight, weights});
  }
  return row;
}

// A rank's two stages in the V: `down` on the way to the last rank, `up` on the way back. Microbatches of each stage
// and kind are taken in turn; the ones from `microbatches` on are left out.
class VRow {
 public:
  VRow(int rank, int pp, int microbatches) : down(rank), up(2 * pp - 1 - rank), microbatches_(microbatches) {}

  const int down, up;

  void repeat(int times, const std::vector<std::pair<int, ActionKind>>& what) {
    for (int i = 0; i < times; ++i) {
      for (const auto& [stage, kind] : what) {
        const Action a{stage, kind, next_[{stage, kind}]++};
        if (a.microbatch < microbatches_) {
          row_.push_back(a);
        }
      }
    }
  }
  std::vector<Action> take() { return std::move(row_); }

 private:
  int microbatches_;
  std::map<std::pair<int, ActionKind>, int> next_;
  std::vector<Action> row_;
};

}  // namespace

Schedule zb_h1(int pp, int microbatches) {
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    s.push_back(split_row(rank, microbatches, pp - rank - 1, rank));
  }
  return s;
}

Schedule zb_h2(int pp, int microbatches) {
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    s.push_back(split_row(rank, microbatches, 2 * (pp - rank - 1), 2 * rank));
  }
  return s;
}

// The first microbatch is back on a rank after 2 (pp - rank) - 1 forwards, the same number of stages it goes through;
// from then on the rank has its pick of both stages. At the end the weight gradients of `rank` pairs wait until no
// input gradient does.
Schedule zb_v(int pp, int microbatches) {
  constexpr ActionKind kF = ActionKind::forward, kI = ActionKind::backward_input, kW = ActionKind::backward_weight;
  const int full = std::max(microbatches, 2 * pp - 1);  // with fewer the warm-up would not be complete: left out
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    VRow row(rank, pp, microbatches);
    const int down = row.down, up = row.up;
    const int forwards_left = full - (2 * pp - 1 - rank);  // of `down`, after the warm-up
    row.repeat(2 * (pp - rank) - 1, {{down, kF}});
    row.repeat(rank, {{up, kF}, {down, kF}});
    row.repeat(pp - rank, {{up, kF}, {up, kI}, {up, kW}});
    row.repeat(forwards_left, {{down, kF}, {down, kI}, {down, kW}, {up, kF}, {up, kI}, {up, kW}});
    row.repeat(full - pp - forwards_left, {{down, kI}, {down, kW}, {up, kF}, {up, kI}, {up, kW}});
    row.repeat(rank, {{down, kI}, {up, kI}});
    row.repeat(pp - rank, {{down, kI}, {down, kW}});
    row.repeat(rank, {{up, kW}});
    row.repeat(rank, {{down, kW}});
    s.push_back(row.take());
  }
  return s;
}

}  // namespace foretrain::plan
