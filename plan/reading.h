// How fast ranks read what they are trained on, and when what they read is there: one rule for the simulator and the
// executor.
//
// A node's cache keeps the first sequences that its ranks read, as many as it has room for, and gives none up for
// another (Mohan et al., "Analyzing and Mitigating Data Stalls in DNN Training", VLDB 2021: their MinIO cache). What it
// keeps is read of storage in one epoch and of memory in all later ones.
#pragma once

#include <set>
#include <vector>

#include "base/units.h"
#include "plan/graph.h"
#include "topologies/cluster.h"

namespace foretrain::plan {

// A rank's part of the storage: all ranks that read of one have equal parts of its bandwidth, always.
struct ReadRate {
  Bandwidth bandwidth;  // 0: reading takes no time
  Time latency;
  double kept = 0;  // of the sequences that it reads, once the cache is full; the mean

  bool is_limited() const { return bandwidth.value > 0; }
  Time transfer(Bytes bytes) const { return is_limited() ? transfer_time(bytes, bandwidth) : Time{}; }
};

// Of the ranks that read most slowly, on the node (or host) where most of them are, and where least is kept.
ReadRate read_rate(const PlanGraph& graph, const topologies::Cluster& cluster);

// What all ranks read in an epoch whose caches are full, in the mean where chance has a part in it: of a random order
// with sequences left over, or over several nodes.
struct EpochReads {
  Bytes all, kept;
  Bytes cache;  // that the fullest node has use for
};
EpochReads epoch_reads(const PlanGraph& graph, const topologies::Cluster& cluster);
// Those whose sequences the rank reads, by coordinate along dp.
std::set<std::int32_t> data_ranks_read(const PlanGraph& graph, Rank r);
// What all ranks read in a step.
Bytes step_reads(const PlanGraph& graph);

// The op of a role that reads, nullptr where it sees no data. All its loads of one program read as much.
const Host* reading_op(const Role& role);

// When reads are there, by when they were asked for: each takes its turn at the rank's part of the bandwidth, then its
// latency, on the thread that is free first. One that takes neither is not of storage, and waits for the thread alone.
class Arrivals {
 public:
  Arrivals() = default;
  explicit Arrivals(std::int64_t threads) : free_(static_cast<std::size_t>(threads)) {}

  // Of the next one. REQUIRES: not the default; `now` never goes back.
  Time ask(Time now, Time transfer, Time latency);

 private:
  Time storage_free_;
  std::vector<Time> free_;  // by thread
};

// A rank's reads, of which the first `prefetch` are asked for at time 0, and each that is taken asks for the one so
// many further on. Of what is kept each takes as much less as it does in the mean.
class Reads {
 public:
  Reads() = default;  // take no time
  Reads(const Host& op, const ReadRate& rate);

  // When the next one is taken: at `now`, or once it is there. REQUIRES: `now` never goes back.
  Time take(Time now);

 private:
  void ask(Time now) { arrival_[asked_++ % arrival_.size()] = arrivals_.ask(now, transfer_, latency_); }

  Time transfer_, latency_;
  Arrivals arrivals_;
  std::vector<Time> arrival_;  // of reads asked for and not taken, by number modulo their number
  std::size_t asked_ = 0, taken_ = 0, prefetch_ = 0;
};

}  // namespace foretrain::plan
