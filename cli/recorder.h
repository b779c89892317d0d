// Collects a machine's spans into a timeline.
#pragma once

#include <string>
#include <vector>

#include "plan/graph.h"
#include "plan/timeline.h"

namespace foretrain::cli {

// Spans of one rank come from one thread; different ranks may report at once.
class Recorder : public plan::SpanSink {
 public:
  explicit Recorder(const plan::PlanGraph& graph) : by_rank_(static_cast<std::size_t>(graph.mesh.ranks())) {}

  void span(const plan::Span& s) override { by_rank_[static_cast<std::size_t>(s.rank)].push_back(s); }

  // Spans by rank, then step and program order. Leaves the recorder empty.
  plan::Timeline timeline(std::string machine, std::vector<Time> step_ends);

 private:
  std::vector<std::vector<plan::Span>> by_rank_;
};

}  // namespace foretrain::cli
