#include "reports/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "plan/locate.h"
#include "plan/op_text.h"
#include "reports/run.h"
#include "topologies/this_machine.h"

namespace foretrain::reports {

namespace {

// A median of fewer steps says less than one of all, disturbed or not.
constexpr std::size_t kLeastCounted = 3;
const std::vector<std::size_t> kFirst{0};  // a forecast's one period

// Spans of one step of a timeline, and what all ranks did together.
struct StepRange {
  std::int32_t first = 0, last = -1;  // as spans count steps
  std::int32_t count() const { return last - first + 1; }
};

StepRange steps_of(const plan::Timeline& timeline) {
  StepRange range{std::numeric_limits<std::int32_t>::max(), -1};
  for (const plan::Span& span : timeline.spans) {
    range.first = std::min(range.first, span.step);
    range.last = std::max(range.last, span.step);
  }
  return range;
}

void check_belongs(const plan::PlanGraph& graph, const plan::Timeline& timeline) {
  const StepRange range = steps_of(timeline);
  const auto steps = static_cast<std::int64_t>(timeline.step_ends.size());
  if (timeline.spans.empty() || steps == 0) {
    throw InputError(fmt::format("the timeline \"{}\" holds no step", timeline.machine));
  }
  if (range.last - range.first + 1 != steps) {
    throw InputError(fmt::format("the timeline \"{}\" has spans of steps {} to {}, but ends of {} steps",
                                 timeline.machine, range.first, range.last, steps));
  }
  for (const plan::Span& span : timeline.spans) {
    if (span.op.role < 0 || static_cast<std::size_t>(span.op.role) >= graph.roles.size() || span.rank < 0 ||
        span.rank >= graph.mesh.ranks() || plan::role_of(graph, span.rank) != span.op.role ||
        plan::locate(graph, span.op).op == nullptr) {
      throw InputError(
          fmt::format("the timeline \"{}\" is not one of this job: op {}.{}.{} on rank {} is none of its plan",
                      timeline.machine, span.op.role, span.op.instance, span.op.position, span.rank));
    }
  }
}

// Per-step values under one name; the median over steps stands for all.
struct Series {
  std::vector<double> seconds;
  double ops = 0;
};
using SeriesByName = std::map<std::string, Series>;

struct StepTotals {
  SeriesByName by_kind, by_phase, by_stream;
};

// `parts`: ranks x steps, over which the totals are.
void append(SeriesByName& series, const std::map<std::string, plan::Busy>& totals, double parts) {
  for (const auto& [name, busy] : totals) {
    Series& s = series[name];
    s.seconds.push_back(seconds(busy.time) / parts);
    s.ops = static_cast<double>(busy.ops) / parts;
  }
}

// By period, of whole ones; per step. `counted`: indices of periods.
StepTotals totals_by_period(const plan::PlanGraph& graph, const plan::Timeline& timeline, StepRange steps,
                            const std::vector<std::size_t>& counted) {
  const std::int32_t period = plan::period(graph);
  std::deque<plan::TotalsAccumulator> accumulators;  // they do not move
  for (std::int32_t step = steps.first; step <= steps.last; step += period) {
    accumulators.emplace_back(graph);
  }
  for (const plan::Span& span : timeline.spans) {
    if (span.step >= steps.first) {
      accumulators[static_cast<std::size_t>((span.step - steps.first) / period)].add(span);
    }
  }
  StepTotals out;
  const auto parts = static_cast<double>(graph.mesh.ranks() * period);
  for (const std::size_t i : counted) {
    const plan::Totals totals = accumulators[i].totals();
    append(out.by_kind, totals.by_kind, parts);
    append(out.by_phase, totals.by_phase, parts);
    append(out.by_stream, totals.by_stream, parts);
  }
  return out;
}

std::vector<ComparedTime> joined(const SeriesByName& predicted, const SeriesByName& measured) {
  std::map<std::string, ComparedTime> rows;
  for (const auto& [name, series] : predicted) {
    rows[name].ops = series.ops;
    rows[name].predicted_seconds = quantile(series.seconds, 0.5);
  }
  for (const auto& [name, series] : measured) {
    rows[name].ops = series.ops;
    rows[name].measured_seconds = quantile(series.seconds, 0.5);
  }
  std::vector<ComparedTime> out;
  for (auto& [name, row] : rows) {
    row.name = name;
    out.push_back(row);
  }
  std::stable_sort(out.begin(), out.end(), [](const ComparedTime& a, const ComparedTime& b) {
    return a.measured_seconds > b.measured_seconds;
  });
  return out;
}

// The same op of a block, whatever layer, microbatch, chunk or role it is done for: block name and op in words.
using OpKey = std::pair<std::string, std::string>;
struct Durations {
  std::vector<double> seconds;
  double count = 0;  // span x multiplicity
};
std::map<OpKey, Durations> durations(const plan::PlanGraph& graph, const plan::Timeline& timeline,
                                     std::int32_t first_step, const std::vector<std::size_t>& counted) {
  const std::int32_t period = plan::period(graph);
  std::map<std::tuple<std::int32_t, plan::BlockId, int>, OpKey> keys;  // words are made once per op of a block
  std::map<OpKey, Durations> out;
  for (const plan::Span& span : timeline.spans) {
    if (span.step < first_step || !std::binary_search(counted.begin(), counted.end(),
                                                      static_cast<std::size_t>((span.step - first_step) / period))) {
      continue;
    }
    const plan::Place place = plan::locate(graph, span.op);
    const auto [key, is_new] = keys.try_emplace({span.op.role, place.block, place.op_in_block});
    if (is_new) {
      const plan::Role& role = graph.roles[static_cast<std::size_t>(span.op.role)];
      key->second = {role.blocks[static_cast<std::size_t>(place.block)].name, plan::op_text(graph, *place.op)};
    }
    Durations& d = out[key->second];
    d.seconds.push_back(seconds(span.end - span.start));
    d.count += span.multiplicity;
  }
  return out;
}

std::vector<ComparedTime> compared_ops(const plan::PlanGraph& graph, const plan::Timeline& predicted,
                                       std::int32_t predicted_from, const plan::Timeline& measured,
                                       std::int32_t measured_from, const std::vector<std::size_t>& counted) {
  const std::map<OpKey, Durations> forecast = durations(graph, predicted, predicted_from, kFirst);
  const auto steps = static_cast<double>(counted.size() * static_cast<std::size_t>(plan::period(graph)));
  const auto ranks = static_cast<double>(graph.mesh.ranks());
  std::vector<ComparedTime> out;
  for (const auto& [key, durations] : durations(graph, measured, measured_from, counted)) {
    const auto found = forecast.find(key);
    const double ops = durations.count / ranks / steps;
    ComparedTime row{key.first + ": " + key.second, ops, 0, ops * quantile(durations.seconds, 0.5)};
    if (found != forecast.end()) {
      row.predicted_seconds = ops * quantile(found->second.seconds, 0.5);
    }
    out.push_back(row);
  }
  std::stable_sort(out.begin(), out.end(), [](const ComparedTime& a, const ComparedTime& b) {
    return std::abs(a.predicted_seconds - a.measured_seconds) > std::abs(b.predicted_seconds - b.measured_seconds);
  });
  return out;
}

// The timeline's last steps, so many that they are whole periods of the graph.
StepRange whole_periods(const plan::PlanGraph& graph, const plan::Timeline& timeline) {
  StepRange steps = steps_of(timeline);
  const std::int32_t period = plan::period(graph);
  if (steps.count() < period) {
    throw InputError(
        fmt::format("the timeline \"{}\" has {} steps; the job repeats after {} (average_every): expected as "
                    "many, or more",
                    timeline.machine, steps.count(), period));
  }
  steps.first += steps.count() % period;
  return steps;
}

// Seconds of a step, the mean of each period.
std::vector<double> periods(const plan::PlanGraph& graph, const plan::Timeline& timeline) {
  const auto period = static_cast<std::size_t>(plan::period(graph));
  const std::vector<Time>& ends = timeline.step_ends;
  std::vector<double> out;
  for (std::size_t end = ends.size() % period + period; end <= ends.size(); end += period) {
    const Time before = end == period ? Time{} : ends[end - period - 1];
    out.push_back(seconds(ends[end - 1] - before) / static_cast<double>(period));
  }
  return out;
}

// The mean step of a period, which begins so many steps behind the timeline's first.
plan::Breakdown breakdown_of(const plan::PlanGraph& graph, const plan::Timeline& timeline, std::int32_t begin) {
  const std::vector<plan::RankBreakdown> ranks = plan::breakdowns(graph, timeline);
  const std::int32_t period = plan::period(graph);
  plan::Breakdown sum;
  for (std::int32_t step = begin; step < begin + period; ++step) {
    sum += plan::mean_breakdown(ranks, static_cast<std::size_t>(step));
  }
  return plan::mean_step(sum, sum, 0, period);
}

// Of periods those of which no step was disturbed.
std::vector<std::size_t> counted_periods(const plan::PlanGraph& graph, const plan::Timeline& timeline,
                                         const std::vector<double>& periods) {
  std::vector<std::size_t> all(periods.size());
  std::iota(all.begin(), all.end(), 0);
  if (timeline.stolen.empty()) {
    return all;
  }
  const auto period = static_cast<std::size_t>(plan::period(graph));
  const std::vector<Time>& ends = timeline.step_ends;
  const auto disturbed = [&](std::size_t step) {
    const Time before = step == 0 ? Time{} : ends[step - 1];
    return seconds(timeline.stolen[step]) > topologies::kMostStolen * seconds(ends[step] - before);
  };
  std::vector<std::size_t> undisturbed;
  std::copy_if(all.begin(), all.end(), std::back_inserter(undisturbed), [&](std::size_t i) {
    const std::size_t first = ends.size() % period + i * period;
    std::vector<std::size_t> steps(period);
    std::iota(steps.begin(), steps.end(), first);
    return std::none_of(steps.begin(), steps.end(), disturbed);
  });
  return undisturbed.size() < kLeastCounted ? all : undisturbed;
}

double median(const std::vector<double>& periods, const std::vector<std::size_t>& counted) {
  std::vector<double> values;
  for (const std::size_t i : counted) {
    values.push_back(periods[i]);
  }
  return quantile(std::move(values), 0.5);
}

// Of the counted periods the one nearest to `value`; the earliest of equals.
std::size_t nearest(double value, const std::vector<double>& periods, const std::vector<std::size_t>& counted) {
  return *std::min_element(counted.begin(), counted.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(periods[a] - value) < std::abs(periods[b] - value);
  });
}

double relative_error(double predicted, double measured) {
  return measured > 0 ? (predicted - measured) / measured : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

double ComparedTime::error() const {
  return relative_error(predicted_seconds, measured_seconds);
}

double Comparison::error() const {
  return relative_error(predicted_step, measured_step);
}

Time exposed_communication(const plan::Breakdown& b) {
  return b.exposed_tp + b.exposed_dp + b.exposed_pp + b.exposed_cp + b.exposed_ep;
}

Comparison compare(const plan::PlanGraph& graph, const plan::Timeline& predicted, const plan::Timeline& measured) {
  check_belongs(graph, predicted);
  check_belongs(graph, measured);
  const StepRange measured_steps = whole_periods(graph, measured);
  StepRange predicted_steps = whole_periods(graph, predicted);
  predicted_steps.first = predicted_steps.last - plan::period(graph) + 1;

  Comparison c;
  c.predicted_machine = predicted.machine;
  c.measured_machine = measured.machine;
  c.step_seconds = periods(graph, measured);
  c.counted = counted_periods(graph, measured, c.step_seconds);
  const std::vector<double> predicted_periods = periods(graph, predicted);
  c.predicted_step = graph.asynchronous ? quantile(predicted_periods, 0.5) : predicted_periods.back();
  c.measured_step = median(c.step_seconds, c.counted);

  const StepTotals forecast = totals_by_period(graph, predicted, predicted_steps, kFirst);
  const StepTotals real = totals_by_period(graph, measured, measured_steps, c.counted);
  c.by_kind = joined(forecast.by_kind, real.by_kind);
  c.by_phase = joined(forecast.by_phase, real.by_phase);
  c.by_stream = joined(forecast.by_stream, real.by_stream);
  c.by_op = compared_ops(graph, predicted, predicted_steps.first, measured, measured_steps.first, c.counted);

  const auto typical = static_cast<std::int32_t>(nearest(c.measured_step, c.step_seconds, c.counted));
  c.median_step = measured_steps.first + typical * plan::period(graph);
  c.predicted_breakdown = breakdown_of(graph, predicted, predicted_steps.first - steps_of(predicted).first);
  c.measured_breakdown = breakdown_of(graph, measured, c.median_step - steps_of(measured).first);
  return c;
}

}  // namespace foretrain::reports
