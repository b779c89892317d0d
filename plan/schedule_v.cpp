// Schedules of two stages per rank. In a V rank r has stages r and 2 pp - 1 - r, so that the model turns round on the
// last rank and ends on the first. zb_v is in the order of its authors' code (get_zb_v_schedule of Qi et al. 2023,
// section 6), which PyTorch's ScheduleZBVZeroBubble has too; dualpipe_v in that of DeepSeek's DualPipeV, PyTorch's
// ScheduleDualPipeV; dualpipe in that of DeepSeek's DualPipe (github deepseek-ai/DualPipe, dualpipe.py, step).
#include <algorithm>
#include <map>
#include <queue>
#include <utility>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

constexpr ActionKind kF = ActionKind::forward, kB = ActionKind::backward, kI = ActionKind::backward_input,
                     kW = ActionKind::backward_weight;

// A rank's two stages: in the V `down` on the way to the last rank, `up` on the way back. Each stage takes microbatches
// in turn, weight gradients in the order of the input gradients; the ones from `microbatches` on are left out.
class VRow {
 public:
  VRow(int down_stage, int up_stage, int microbatches) : down(down_stage), up(up_stage), microbatches_(microbatches) {}

  const int down, up;

  void repeat(int times, const std::vector<std::pair<int, ActionKind>>& what) {
    for (int i = 0; i < times; ++i) {
      for (const auto& [stage, kind] : what) {
        add(stage, kind);
      }
    }
  }
  std::vector<Action> take() { return std::move(row_); }

 private:
  void add(int stage, ActionKind kind) {
    const int of = kind == kF ? forwards_[stage]++ : kind == kW ? weights_[stage]++ : backwards_[stage]++;
    int microbatch = of;
    if (kind == kI) {
      halved_[stage].push_back(of);
    } else if (kind == kW) {
      microbatch = halved_[stage][static_cast<std::size_t>(of)];
    }
    if (microbatch < microbatches_) {
      row_.push_back({stage, kind, microbatch});
    }
  }

  int microbatches_;
  std::map<int, int> forwards_, backwards_, weights_;  // by stage
  std::map<int, std::vector<int>> halved_;             // microbatches whose backward is in two halves
  std::vector<Action> row_;
};

}  // namespace

// The first microbatch is back on a rank after 2 (pp - rank) - 1 forwards, the same number of stages it goes through;
// from then on the rank has its pick of both stages. At the end the weight gradients of `rank` pairs wait until no
// input gradient does.
Schedule zb_v(int pp, int microbatches) {
  const int full = std::max(microbatches, 2 * pp - 1);  // with fewer the warm-up would not be complete: left out
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    VRow row(rank, 2 * pp - 1 - rank, microbatches);
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

namespace {

// Warm-up: what the first microbatch takes to come back is filled with forwards of `down`, then of both stages. In the
// middle every forward has a backward of the other stage beside it. Backwards are in two halves only where their weight
// gradients fill a gap: as the first ones come back, and at the end, when no forwards are left.
std::vector<Action> dualpipe_row(VRow row, int rank, int ranks, int microbatches) {
  const int full = std::max(microbatches, 2 * ranks);  // with fewer the warm-up would not be complete: left out
  const int down = row.down, up = row.up, after = ranks - 1 - rank;  // ranks further down
  row.repeat(2 * after, {{down, kF}});
  row.repeat(rank + 1, {{down, kF}, {up, kF}});
  row.repeat(after, {{up, kI}, {up, kW}, {up, kF}});
  row.repeat(full - 2 * ranks + rank + 1, {{down, kF}, {up, kB}, {up, kF}, {down, kB}});
  row.repeat(after, {{up, kB}, {up, kF}, {down, kB}});
  // rank + 1 pairs of backwards, the second half of them (the rank + 1 last ones) without their weight gradients.
  std::queue<int> put_off;
  for (int i = 0; i < 2 * (rank + 1); ++i) {
    const int stage = i % 2 == 0 ? up : down;
    row.repeat(1, {{stage, i <= rank ? kB : kI}});
    if (i > rank) {
      put_off.push(stage);
    }
  }
  for (int i = 0; i < after; ++i) {
    row.repeat(1, {{put_off.front(), kW}, {down, kI}});
    put_off.pop();
    put_off.push(down);
  }
  for (; !put_off.empty(); put_off.pop()) {
    row.repeat(1, {{put_off.front(), kW}});
  }
  return row.take();
}

}  // namespace

Schedule dualpipe_v(int pp, int microbatches) {
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    s.push_back(dualpipe_row({rank, 2 * pp - 1 - rank, microbatches}, rank, pp, microbatches));
  }
  return s;
}

// Either half of the ranks is to the other what the V's way up is to its way down: a rank's row is that of its place in
// its half, the way that begins in this half being `down`.
Schedule dualpipe(int pp, int microbatches) {
  CHECK(pp % 2 == 0 && microbatches % 2 == 0, "dualpipe: {} ranks, {} microbatches", pp, microbatches);
  const int half = microbatches / 2;
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    const int mirror = 2 * pp - 1 - rank;  // the rank's stage of the copy
    const bool near = rank < pp / 2;
    s.push_back(
        dualpipe_row({near ? rank : mirror, near ? mirror : rank, half}, std::min(rank, pp - 1 - rank), pp / 2, half));
    for (Action& a : s.back()) {
      a.microbatch += a.stage < pp ? 0 : half;
    }
  }
  return s;
}

}  // namespace foretrain::plan
