// Where the time of a step went: every instant of a rank's compute stream in exactly one bucket, and busy times by op
// kind, phase and stream. The same for simulated and for measured spans.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "plan/graph.h"
#include "plan/timeline.h"

namespace foretrain::plan {

// Sums to the step period. Communication over pipeline stages counts as exposed_pp by its stream's axis, whatever it
// carries; exposed_ep is for expert parallel streams.
struct Breakdown {
  Time compute, recompute, exposed_tp, exposed_dp, exposed_pp, exposed_cp, exposed_ep, bubble, optimizer, host;

  Time total() const;
  Breakdown& operator+=(const Breakdown& b);
};

// (a + more (a - b)) / steps, rounded down; what that leaves over is bubble.
Breakdown mean_step(const Breakdown& a, const Breakdown& b, std::int64_t more, std::int64_t steps);

// The bucket of an op: for what it does on the compute stream, or for being waited for on another stream.
using Share = Time Breakdown::*;
Share share_of(const PlanGraph& graph, const Role& role, const Op& op);

// Each instant belongs to the op that runs on the compute stream: compute, or recompute or optimizer by its phase.
// While that stream is idle, the instant belongs to the op it waits for: the dependency of its next op that ended last,
// from that op's start to its end, by its stream (tp, dp, pp, cp; host and copy streams: host); before that op's start,
// to what that op waited for in turn, on its own stream or through its dependencies; what none of them covers is bubble
// (they waited for other ranks), or host where a message on a host stream did. When all dependencies had ended and
// still nothing ran, the host was late where the span says so; else the device was taken: by another stream's op if one
// ran then, else bubble. Joins are nothing but their waits.
//
// Takes one rank's spans in order of completion (ties in program order) and the ends of steps in order, early or late.
// The first span may belong to any step. Keeps little more than one step's communication.
class BreakdownAccumulator {
 public:
  // `begin`: where the first period starts. The graph must outlive the accumulator.
  BreakdownAccumulator(const PlanGraph& graph, int role, Time begin = {});
  ~BreakdownAccumulator();
  BreakdownAccumulator(BreakdownAccumulator&&) noexcept;
  BreakdownAccumulator& operator=(BreakdownAccumulator&&) noexcept;

  void add(const Span& span);
  void end_step(Time end);  // of all ranks
  // After the last span: by step, each summing to its period. Time after the rank's last op is what its other streams
  // still did, then bubble.
  std::vector<Breakdown> finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Of every rank (class) of a timeline, in order of rank: by step.
struct RankBreakdown {
  Rank rank = 0;
  std::int32_t multiplicity = 1;
  std::vector<Breakdown> steps;
};
std::vector<RankBreakdown> breakdowns(const PlanGraph& graph, const Timeline& timeline);

// Mean over ranks of one step of each. `step` counts from the timeline's first.
Breakdown mean_breakdown(const std::vector<RankBreakdown>& ranks, std::size_t step);

// Ops and their time over all ranks (span x multiplicity). Times of different streams overlap.
struct Busy {
  std::int64_t ops = 0;
  Time time;
};
struct Totals {
  std::map<std::string, Busy> by_kind;    // kind_name
  std::map<std::string, Busy> by_phase;   // name(Phase)
  std::map<std::string, Busy> by_stream;  // stream name
};

// Sums spans as they come, in any order, from one thread. The graph must outlive it.
class TotalsAccumulator {
 public:
  explicit TotalsAccumulator(const PlanGraph& graph);
  ~TotalsAccumulator();
  void add(const Span& span);
  Totals totals() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Of the spans of steps first_step and later.
Totals totals(const PlanGraph& graph, const Timeline& timeline, std::int32_t first_step = 0);

}  // namespace foretrain::plan
