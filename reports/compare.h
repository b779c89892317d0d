// Forecast against reality: two timelines of one graph, laid side by side. Every figure is of one step and one rank,
// the mean over ranks, and over the steps of a period where these are not alike (plan::period); errors are (predicted -
// measured) / measured.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "plan/breakdown.h"
#include "plan/channel.h"
#include "plan/graph.h"
#include "plan/job.h"
#include "plan/timeline.h"

namespace foretrain::reports {

// Times of ops that overlap on different streams add up to more than the step.
struct ComparedTime {
  std::string name;
  double ops = 0;  // per step and rank
  double predicted_seconds = 0, measured_seconds = 0;
  double error() const;  // NaN where nothing was measured
};

struct Comparison {
  double predicted_step = 0, measured_step = 0;  // seconds; the measured one is the median of the counted steps
  double error() const;
  std::vector<double> step_seconds;  // of all measured steps; by period, where steps are not alike, the mean one
  // Indices of those that count: not those in which a hypervisor kept cores waiting (topologies::kMostStolen), where
  // enough others are left.
  std::vector<std::size_t> counted;
  std::vector<ComparedTime> by_kind, by_phase, by_stream;  // the largest measured time first
  // Ops of one place in a block ("layer forward: matmul 512x384x1536"), each by the median of its durations; those that
  // contribute most to the difference first.
  std::vector<ComparedTime> by_op;
  plan::Breakdown predicted_breakdown, measured_breakdown;  // the measured one of the step of median length
  std::int32_t median_step = 0;                             // the step it is taken from, as spans count
  std::string predicted_machine, measured_machine;
  plan::Staleness predicted_staleness, measured_staleness;  // of asynchronous updates, where they were counted
};

// `predicted`: its last period counts, of one whose steps overlap (asynchronous) the one in the median. `measured`:
// medians over its counted periods. Throws InputError where the measured timeline is not one of this graph, or holds no
// period.
Comparison compare(const plan::PlanGraph& graph, const plan::Timeline& predicted, const plan::Timeline& measured);

// `max_error`: the threshold of --max-error, if one was given.
nlohmann::ordered_json to_json(const Comparison& c, const plan::Job& job, std::optional<double> max_error);
std::string to_text(const Comparison& c, const plan::Job& job, std::optional<double> max_error, bool colour);

// Communication that the compute stream waited for.
Time exposed_communication(const plan::Breakdown& b);

}  // namespace foretrain::reports
