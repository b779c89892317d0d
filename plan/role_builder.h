// Tools to write one role: buffers, streams and events by name, blocks whose `after` edges follow from their data flow.
// Used by build_*.cpp only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "plan/graph.h"

namespace foretrain::plan {

class RoleBuilder {
 public:
  RoleBuilder(PlanGraph& graph, Role& role) : graph_(graph), role_(role) {}

  Role& role() { return role_; }
  const Role& role() const { return role_; }
  const PlanGraph& graph() const { return graph_; }

  // Each returns the existing one of that name, or adds it (then with these properties).
  BufferId buffer(const std::string& name, Dtype dtype, std::int64_t elements, BufferKind kind, Lifetime lifetime,
                  int layers = 0, std::int32_t layer_list = -1);
  StreamId stream(const std::string& name, StreamKind kind, Axis axis, bool experts = false);
  EventId event(const std::string& name, Replicas replicas);
  std::int32_t tag(const std::string& name);
  std::int16_t runtime_extent(const RuntimeExtent& extent);

  BlockId add(Block block);
  SegmentId add(Segment segment);

  // The whole of a buffer's copy; `layer_delta` layers on.
  Operand whole(BufferId buffer, int layer_delta = 0) const;

 private:
  PlanGraph& graph_;
  Role& role_;
};

// Collects a block's ops in program order and orders them:
//  - a compute op comes after the latest conflicting op of every other stream (of one buffer: read after write, write
//    after read or write);
//  - an op of another stream comes after all compute ops before it, of this block and of earlier ones: its operands and
//    the workspace that it writes to were theirs. A Join is put in where the block has none yet.
class BlockBuilder {
 public:
  BlockBuilder(const Role& role, std::string name) : role_(role) { block_.name = std::move(name); }

  // Returns the op's position.
  int emit(Work work, StreamId stream, Phase phase, std::vector<Operand> reads, std::vector<Operand> writes);
  // An op that produces data from outside (a receive, a load): ordered by the event alone, so that it may run ahead.
  int emit_ahead(Work work, StreamId stream, Phase phase, Operand write, EventId wait);
  // An op that comes after one of another stream alone, beside compute.
  int emit_behind(Work work, StreamId stream, Phase phase, std::vector<Operand> reads, int after);
  // A Join on the compute stream after all ops emitted so far on other streams; waits for `waits`, records `records`.
  int join(Phase phase, std::vector<EventId> waits = {}, std::vector<EventId> records = {});

  Op& op(int position) { return block_.ops[static_cast<std::size_t>(position)]; }
  // Ends the block with a Join if the compute stream has not waited for some op of another stream that records no
  // event.
  void join_open(Phase phase);
  Block take() { return std::move(block_); }

 private:
  std::vector<std::uint16_t> latest_of_other_streams(const Op& op, bool conflicting_only) const;
  bool conflict(const Op& earlier, const Op& later) const;
  bool overlap(const Operand& a, const Operand& b) const;
  const Role& role_;
  Block block_;
};

}  // namespace foretrain::plan
