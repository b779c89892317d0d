// The pipeline of one step as bars: what each stage did when. Every instance of a segment ("F0" of microbatch 3) is one
// bar on each stream that it used; one without a microbatch (the update) perhaps several.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plan/graph.h"
#include "plan/timeline.h"

namespace foretrain::reports {

struct Bar {
  std::int32_t instance = -1;  // of the role, as plan::OpId counts
  Time start, end;             // from the first op to the last
  Time busy;                   // of it, ops ran
};

struct Lane {
  int role = -1;
  plan::Rank rank = 0;  // stands for `ranks` that did the same at the same time
  std::int64_t ranks = 1;
  plan::StreamId stream = plan::kCompute;
  std::vector<Bar> bars;  // by start
};

struct Pipeline {
  Time start, end;          // of the step: its first op's start, its last op's end
  std::vector<Lane> lanes;  // by rank, then stream; those without bars are left out
};

// Gathers the spans of one step as they come; those that take no time are none. Calls come from one thread.
class PipelineRecorder : public plan::SpanSink {
 public:
  // `step` as spans count. The graph must outlive it.
  PipelineRecorder(const plan::PlanGraph& graph, std::int32_t step) : graph_(graph), step_(step) {}

  void span(const plan::Span& s) override;
  Pipeline pipeline() const;

 private:
  const plan::PlanGraph& graph_;
  const std::int32_t step_;
  std::map<std::pair<plan::Rank, plan::StreamId>, Lane> lanes_;
};

// What a segment does: "F0" is forward.
enum class Activity : std::uint8_t { forward, backward, weight_gradient, both, update, other };
std::string_view name(Activity a);
Activity activity(const plan::Segment& segment);

// "F0, microbatch 3"; of a segment without one its name.
std::string bar_text(const plan::Role& role, const plan::Instance& instance);

}  // namespace foretrain::reports
