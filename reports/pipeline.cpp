#include "reports/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "plan/locate.h"

namespace foretrain::reports {

namespace {

// More cannot be told apart; then the first rank of each role stands for all.
constexpr std::size_t kMostRanks = 256;

// An update's parts lie apart where it waits for all ranks.
bool waited(const plan::Role& role, const Bar& bar, const plan::Span& next) {
  return plan::instance_at(role, bar.instance)->microbatch < 0 && next.start - bar.end > bar.end - bar.start;
}

}  // namespace

void PipelineRecorder::span(const plan::Span& s) {
  if (s.step != step_ || s.start == s.end) {
    return;
  }
  Lane& lane = lanes_[{s.rank, s.stream}];
  if (lane.role < 0) {
    lane.role = s.op.role;
    lane.rank = s.rank;
    lane.ranks = s.multiplicity;
    lane.stream = s.stream;
  }
  const bool goes_on = !lane.bars.empty() && lane.bars.back().instance == s.op.instance;
  if (!goes_on || waited(graph_.roles[static_cast<std::size_t>(s.op.role)], lane.bars.back(), s)) {
    lane.bars.push_back({s.op.instance, s.start, s.end, {}});
  }
  Bar& bar = lane.bars.back();
  bar.start = std::min(bar.start, s.start);
  bar.end = std::max(bar.end, s.end);
  bar.busy += s.end - s.start;
}

Pipeline PipelineRecorder::pipeline() const {
  std::set<plan::Rank> ranks, firsts;
  for (const auto& [key, lane] : lanes_) {
    ranks.insert(lane.rank);
  }
  for (const plan::Role& role : graph_.roles) {
    firsts.insert(plan::first_rank(graph_.mesh, role.ranks));
  }
  Pipeline p;
  bool any = false;
  for (const auto& [key, lane] : lanes_) {
    if (ranks.size() > kMostRanks && !firsts.contains(lane.rank)) {
      continue;
    }
    p.lanes.push_back(lane);
    std::vector<Bar>& bars = p.lanes.back().bars;
    std::stable_sort(bars.begin(), bars.end(), [](const Bar& a, const Bar& b) { return a.start < b.start; });
    p.start = any ? std::min(p.start, bars.front().start) : bars.front().start;
    any = true;
    for (const Bar& bar : bars) {
      p.end = std::max(p.end, bar.end);
    }
  }
  return p;
}

std::string_view name(Activity a) {
  switch (a) {
    case Activity::forward: return "forward";
    case Activity::backward: return "backward";
    case Activity::weight_gradient: return "weight gradient";
    case Activity::both: return "forward and backward";
    case Activity::update: return "update";
    case Activity::other: return "other";
  }
  return "";
}

Activity activity(const plan::Segment& segment) {
  if (segment.beside_chunk >= 0) {
    return Activity::both;
  }
  if (segment.chunk < 0) {
    return segment.name.starts_with("update") ? Activity::update : Activity::other;
  }
  switch (segment.name.front()) {
    case 'F': return Activity::forward;
    case 'B':
    case 'I': return Activity::backward;
    case 'W': return Activity::weight_gradient;
    default: return Activity::other;
  }
}

std::string bar_text(const plan::Role& role, const plan::Instance& instance) {
  const plan::Segment& segment = role.segments[static_cast<std::size_t>(instance.segment)];
  if (instance.microbatch < 0) {
    return segment.name;
  }
  const std::string second = instance.beside ? fmt::format(" and {}", instance.beside->microbatch) : "";
  return fmt::format("{}, microbatch {}{}", segment.name, instance.microbatch, second);
}

}  // namespace foretrain::reports
