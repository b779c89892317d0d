// What a machine did with a plan graph, simulated or measured: one span per op and rank class.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "plan/graph.h"

namespace foretrain::plan {

// `rank` stands for `multiplicity` ranks that did the same at the same time (simulated roles); measured spans have 1.
// Start of a collective: when its last member had reached it. Times count from the start of the timeline.
struct Span {
  OpId op;
  std::int32_t step = 0;
  StreamId stream = kCompute;
  std::int32_t multiplicity = 1;
  Rank rank = 0;
  Time start, end;
  std::int32_t sender = -1;   // of a take: whose message, as index in its group (channel.h: or why of none)
  bool held_by_host = false;  // all that it waits for was over, and its host had not submitted it (simulated only)
};

struct Timeline {
  std::string machine;          // "simulated: roofline, alpha_beta" or "measured: cpu, threads"
  std::vector<Span> spans;      // by rank, then program order
  std::vector<Time> step_ends;  // when the last op of step i ended, over all ranks
  std::vector<Time> stolen;     // measured: time that a hypervisor kept cores waiting in step i; empty: not known
};

// Where a machine writes its spans. Ranks of an executor call it from their own threads: calls for one rank come from
// one thread, in order of completion.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  virtual void span(const Span& s) = 0;
};

// Every op of every rank (class) once per step; dependencies kept; no overlap on a stream; collectives start together
// after the last member is ready, receives end no earlier than their sends start. Returns one line per violation, at
// most 20. `slack`: tolerance for clocks of measured timelines (0 for simulated ones).
std::vector<std::string> validate(const PlanGraph& graph, const Timeline& timeline, Time slack = {});

// JSON in and out ("foretrain.timeline/1"): spans as compact arrays.
std::string to_json(const Timeline& t);
Timeline timeline_from_json(const std::string& text, const std::string& origin);

}  // namespace foretrain::plan
