#include <algorithm>
#include <iterator>
#include <numeric>

#include "base/error.h"
#include "plan/breakdown_shares.h"
#include "plan/locate.h"

namespace foretrain::plan {

Time Breakdown::total() const {
  return std::accumulate(std::begin(kShares), std::end(kShares), Time{},
                         [&](Time sum, Share b) { return sum + this->*b; });
}

Breakdown mean_step(const Breakdown& a, const Breakdown& b, std::int64_t more, std::int64_t steps) {
  Breakdown mean;
  for (const Share share : kShares) {
    mean.*share = Time{((a.*share).value + more * ((a.*share) - (b.*share)).value) / steps};
  }
  const Time period{(a.total().value + more * (a.total() - b.total()).value) / steps};
  mean.bubble += period - mean.total();
  return mean;
}

Breakdown& Breakdown::operator+=(const Breakdown& b) {
  for (const Share share : kShares) {
    this->*share += b.*share;
  }
  return *this;
}

std::vector<RankBreakdown> breakdowns(const PlanGraph& graph, const Timeline& timeline) {
  std::vector<RankBreakdown> result;
  for (std::size_t first = 0; first < timeline.spans.size();) {
    const Span& head = timeline.spans[first];
    std::size_t last = first;
    while (last < timeline.spans.size() && timeline.spans[last].rank == head.rank) {
      ++last;
    }
    std::vector<const Span*> order;
    order.reserve(last - first);
    for (std::size_t i = first; i < last; ++i) {
      order.push_back(&timeline.spans[i]);
    }
    std::stable_sort(order.begin(), order.end(), [](const Span* a, const Span* b) { return a->end < b->end; });
    BreakdownAccumulator accumulator(graph, head.op.role);
    for (const Time end : timeline.step_ends) {
      accumulator.end_step(end);
    }
    for (const Span* span : order) {
      accumulator.add(*span);
    }
    result.push_back({head.rank, head.multiplicity, accumulator.finish()});
    first = last;
  }
  return result;
}

Breakdown mean_breakdown(const std::vector<RankBreakdown>& ranks, std::size_t step) {
  std::int64_t n = 0;
  for (const RankBreakdown& rank : ranks) {
    CHECK(step < rank.steps.size(), "rank {} has {} steps, step {} was asked for", rank.rank, rank.steps.size(), step);
    n += rank.multiplicity;
  }
  Breakdown mean;
  if (ranks.empty()) {
    return mean;
  }
  for (const Share share : kShares) {
    // The sum over n, rounded down once, without a sum that could overflow.
    std::int64_t quotient = 0, rest = 0;
    for (const RankBreakdown& rank : ranks) {
      const std::int64_t value = (rank.steps[step].*share).value;
      quotient += value / n * rank.multiplicity;
      rest += value % n * rank.multiplicity;
    }
    mean.*share = Time{quotient + rest / n};
  }
  const Time period = ranks.back().steps[step].total();
  mean.bubble += period - mean.total();  // what rounding down left over
  return mean;
}

struct TotalsAccumulator::Impl {
  const PlanGraph& graph;
  std::vector<std::vector<std::vector<Busy>>> by_op;  // [role][block][op]: names are looked up once, at the end
};

TotalsAccumulator::TotalsAccumulator(const PlanGraph& graph) : impl_(new Impl{graph, {}}) {
  for (const Role& role : graph.roles) {
    auto& blocks = impl_->by_op.emplace_back();
    for (const Block& block : role.blocks) {
      blocks.emplace_back(block.ops.size());
    }
  }
}
TotalsAccumulator::~TotalsAccumulator() = default;

void TotalsAccumulator::add(const Span& span) {
  const Place place = locate(impl_->graph, span.op);
  CHECK(place.op != nullptr, "span of op {}.{}.{}, which the graph does not have", span.op.role, span.op.instance,
        span.op.position);
  Busy& busy = impl_->by_op[static_cast<std::size_t>(span.op.role)][static_cast<std::size_t>(place.block)]
                           [static_cast<std::size_t>(place.op_in_block)];
  busy.ops += span.multiplicity;
  busy.time += Time{(span.end - span.start).value * span.multiplicity};
}

Totals TotalsAccumulator::totals() const {
  Totals result;
  for (std::size_t r = 0; r < impl_->graph.roles.size(); ++r) {
    const Role& role = impl_->graph.roles[r];
    for (std::size_t b = 0; b < role.blocks.size(); ++b) {
      for (std::size_t i = 0; i < role.blocks[b].ops.size(); ++i) {
        const Busy& busy = impl_->by_op[r][b][i];
        if (busy.ops == 0) {
          continue;
        }
        const Op& op = role.blocks[b].ops[i];
        for (Busy* sum : {&result.by_kind[kind_name(op.work)], &result.by_phase[std::string(name(op.phase))],
                          &result.by_stream[role.streams[static_cast<std::size_t>(op.stream)].name]}) {
          sum->ops += busy.ops;
          sum->time += busy.time;
        }
      }
    }
  }
  return result;
}

Totals totals(const PlanGraph& graph, const Timeline& timeline, std::int32_t first_step) {
  TotalsAccumulator accumulator(graph);
  for (const Span& span : timeline.spans) {
    if (span.step >= first_step) {
      accumulator.add(span);
    }
  }
  return accumulator.totals();
}

}  // namespace foretrain::plan
