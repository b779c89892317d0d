#include "cli/recorder.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace foretrain::cli {

plan::Timeline Recorder::timeline(std::string machine, std::vector<Time> step_ends) {
  plan::Timeline timeline{std::move(machine), {}, std::move(step_ends), {}};
  for (std::vector<plan::Span>& spans : by_rank_) {
    std::sort(spans.begin(), spans.end(),
              [](const plan::Span& a, const plan::Span& b) { return std::tie(a.step, a.op) < std::tie(b.step, b.op); });
    timeline.spans.insert(timeline.spans.end(), spans.begin(), spans.end());
    spans = {};
  }
  return timeline;
}

}  // namespace foretrain::cli
