#include "sim/period.h"

#include <algorithm>

#include "plan/cursor.h"

namespace foretrain::sim {

plan::PlanGraph cycle_of(const plan::PlanGraph& graph, std::int32_t steps) {
  plan::PlanGraph longer = graph;
  for (plan::Role& role : longer.roles) {
    const std::vector<plan::Instance> body = std::move(role.program.body);
    role.program.body.clear();
    for (std::int32_t step = 0; step < steps; ++step) {
      for (plan::Instance instance : body) {
        if (instance.every == 1 || step + 1 == steps) {
          instance.every = 1;
          role.program.body.push_back(instance);
        }
      }
    }
  }
  return longer;
}

PeriodSpans::PeriodSpans(const plan::PlanGraph& graph, plan::SpanSink& sink)
    : period_(plan::period(graph)), sink_(sink) {
  for (const plan::Role& role : graph.roles) {
    const plan::Program& p = role.program;
    const int begin = plan::first_body_instance(p);
    std::vector<Place> places;
    for (std::int32_t i = 0; i < begin; ++i) {
      places.push_back({i, 0});
    }
    for (std::int32_t step = 0; step < period_; ++step) {
      for (std::size_t i = 0; i < p.body.size(); ++i) {
        if (p.body[i].runs_in(step)) {
          places.push_back({begin + static_cast<std::int32_t>(i), step});
        }
      }
    }
    epilogue_.push_back(static_cast<std::int32_t>(places.size()));
    for (std::size_t i = 0; i < p.epilogue.size(); ++i) {
      places.push_back({begin + static_cast<std::int32_t>(p.body.size() + i), period_ - 1});
    }
    places_.push_back(std::move(places));
  }
}

void PeriodSpans::span(const plan::Span& span) {
  const auto role = static_cast<std::size_t>(span.op.role);
  const Place& place = places_[role].at(static_cast<std::size_t>(span.op.instance));
  plan::Span out = span;
  out.op.instance = place.instance;
  out.step = span.step * period_ + place.step;
  if (span.op.instance < epilogue_[role]) {
    const auto step = static_cast<std::size_t>(out.step);
    step_ends_.resize(std::max(step_ends_.size(), step + 1));
    step_ends_[step] = std::max(step_ends_[step], span.end);
  }
  sink_.span(out);
}

}  // namespace foretrain::sim
