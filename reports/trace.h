// Timelines as a trace that ui.perfetto.dev and chrome://tracing open: ranks are processes, streams threads, phases
// categories; a slice is an op with its place as arguments; arrows join sends with their receives; a counter of each
// rank has its planned bytes.
// Format: Trace Event Format (JSON object form),
// docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "plan/graph.h"
#include "plan/timeline.h"

namespace foretrain::reports {

// Of a timeline, the steps first_step to last_step, shown with `origin` at time 0. Several stand side by side: for each
// rank the processes of all timelines are neighbours, in the order given.
struct TracedTimeline {
  const plan::Timeline* timeline = nullptr;
  std::string label;  // "forecast", "measured"
  std::int32_t first_step = 0, last_step = 0;
  Time origin;
};

// The whole timeline from its start.
TracedTimeline traced(const plan::Timeline& timeline, const std::string& label);
// One step (as spans count), from the start of its first op on any rank: some ranks begin it before others have ended
// the step before.
TracedTimeline traced_step(const plan::Timeline& timeline, const std::string& label, std::int32_t step);

// Hands the document to `write` piece by piece, each piece a whole line. Times are microseconds, exact to the
// picosecond.
void write_trace(const plan::PlanGraph& graph, const std::vector<TracedTimeline>& timelines,
                 const std::function<void(std::string_view)>& write);

}  // namespace foretrain::reports
