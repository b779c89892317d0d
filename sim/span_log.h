// Spans of ops as they end, handed on instant by instant: each class's to its breakdown, and all to a sink, by class
// and in program order. Used by engine.cpp only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "plan/breakdown.h"
#include "plan/timeline.h"
#include "sim/lowered_role.h"

namespace foretrain::sim {

class SpanLog {
 public:
  explicit SpanLog(plan::SpanSink* sink) : sink_(sink) {}  // may be null; else it must outlive the log

  void add_class(const plan::PlanGraph& graph, std::int32_t role) {
    accumulators_.emplace_back(graph, role);
    spans_.emplace_back();
  }

  // To be filled in before the next call.
  plan::Span& add(std::int32_t of_class, Sequence sequence) {
    auto& spans = spans_[static_cast<std::size_t>(of_class)];
    if (spans.empty()) {
      touched_.push_back(of_class);
    }
    return spans.emplace_back(sequence, plan::Span{}).second;
  }

  void end_step(Time at) {
    for (plan::BreakdownAccumulator& a : accumulators_) {
      a.end_step(at);
    }
  }

  // Nothing more ends at this instant.
  void flush() {
    std::sort(touched_.begin(), touched_.end());
    for (const std::int32_t c : touched_) {
      auto& spans = spans_[static_cast<std::size_t>(c)];
      if (spans.size() > 1) {
        std::sort(spans.begin(), spans.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
      }
      for (const auto& [sequence, span] : spans) {
        accumulators_[static_cast<std::size_t>(c)].add(span);
        if (sink_ != nullptr) {
          sink_->span(span);
        }
      }
      spans.clear();
    }
    touched_.clear();
  }

  // By class, of the last step.
  std::vector<plan::Breakdown> breakdowns() {
    std::vector<plan::Breakdown> result;
    for (plan::BreakdownAccumulator& a : accumulators_) {
      result.push_back(a.finish().back());
    }
    return result;
  }

 private:
  plan::SpanSink* sink_;
  std::vector<plan::BreakdownAccumulator> accumulators_;             // by class
  std::vector<std::vector<std::pair<Sequence, plan::Span>>> spans_;  // by class, of this instant
  std::vector<std::int32_t> touched_;
};

}  // namespace foretrain::sim
