// Steps that are not alike: a graph whose instances run every so many steps (plan::Instance::every) is simulated as one
// whose step is a cycle of plain steps and the one with those instances. The mean step of a period of H is
//     ( C(n) + (H - n) (C(n) - C(n - 1)) ) / H,   n = min(H, 3),
// with C(n) the steady period of cycles of n steps: exact for H <= 3, and where each further plain step takes as long
// as the third. Where spans are asked for, n = H.
#pragma once

#include <vector>

#include "plan/graph.h"
#include "plan/timeline.h"

namespace foretrain::sim {

// How many steps a cycle has; and how many are enough.
inline constexpr std::int32_t kShortCycle = 3;

// The graph with `steps` >= 1 steps of a period in one, the last one with all instances.
plan::PlanGraph cycle_of(const plan::PlanGraph& graph, std::int32_t steps);

// Hands the spans of a cycle of a whole period on as the graph's own, and keeps the ends of steps.
class PeriodSpans : public plan::SpanSink {
 public:
  PeriodSpans(const plan::PlanGraph& graph, plan::SpanSink& sink);
  void span(const plan::Span& span) override;
  std::vector<Time> step_ends() const { return step_ends_; }

 private:
  struct Place {
    std::int32_t instance = 0, step = 0;
  };
  const std::int32_t period_;
  std::vector<std::vector<Place>> places_;  // by role: of instances of the cycle
  std::vector<std::int32_t> epilogue_;      // by role: its first instance, in the cycle
  plan::SpanSink& sink_;
  std::vector<Time> step_ends_;
};

}  // namespace foretrain::sim
