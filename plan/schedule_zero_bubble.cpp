// H1 and H2 of Qi et al. 2023, "Zero Bubble Pipeline Parallelism" (section 2): backwards in two halves. Only the input
// gradient (I) is on the way between ranks; weight gradients (W) fill what would be bubble.
#include <algorithm>

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

}  // namespace foretrain::plan
