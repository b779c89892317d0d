// How fast ranks read what they are trained on, and when what they read is there: one rule for the simulator and the
// executor.
#pragma once

#include <vector>

#include "base/units.h"
#include "plan/graph.h"
#include "topologies/cluster.h"

namespace foretrain::plan {

// A rank's part of the storage: all ranks that read of one have equal parts of its bandwidth, always.
struct ReadRate {
  Bandwidth bandwidth;  // 0: reading takes no time
  Time latency;

  bool is_limited() const { return bandwidth.value > 0; }
  Time transfer(Bytes bytes) const { return is_limited() ? transfer_time(bytes, bandwidth) : Time{}; }
};

// Of the ranks that read most slowly, on the node (or host) where most of them are.
ReadRate read_rate(const PlanGraph& graph, const topologies::Cluster& cluster);

// The op of a role that reads, nullptr where it sees no data. All its loads of one program read as much.
const Host* reading_op(const Role& role);

// When reads are there, by when they were asked for: each takes its turn at the rank's part of the bandwidth, then
// `latency`, on the thread that is free first.
class Arrivals {
 public:
  Arrivals() = default;
  Arrivals(const Host& op, const ReadRate& rate);

  // Of the next one. REQUIRES: not the default; `now` never goes back.
  Time ask(Time now);

 private:
  Time transfer_, latency_;
  Time storage_free_;
  std::vector<Time> free_;  // by thread
};

// A rank's reads, of which the first `prefetch` are asked for at time 0, and each that is taken asks for the one so
// many further on.
class Reads {
 public:
  Reads() = default;  // take no time
  Reads(const Host& op, const ReadRate& rate);

  // When the next one is taken: at `now`, or once it is there. REQUIRES: `now` never goes back.
  Time take(Time now);

 private:
  void ask(Time now) { arrival_[asked_++ % arrival_.size()] = arrivals_.ask(now); }

  Arrivals arrivals_;
  std::vector<Time> arrival_;  // of reads asked for and not taken, by number modulo their number
  std::size_t asked_ = 0, taken_ = 0, prefetch_ = 0;
};

}  // namespace foretrain::plan
