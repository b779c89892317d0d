// Iterates a program's ops in program order without expanding it.
#pragma once

#include "plan/graph.h"

namespace foretrain::plan {

// What an instance binds an op's layer- and slot-relative references to.
struct Binding {
  std::int32_t microbatch = -1, slot = -1, ring = -1, hold = -1;
  std::int32_t layer = -1;       // role-local; -1: none
  std::int32_t first_layer = 0;  // of the segment
  std::int32_t step = 0;
};

// Of one iteration of a segment's call; the step is 0.
Binding bind(const Segment& segment, const Instance& instance, const BlockCall& call, std::int32_t iteration);

// for (ProgramCursor c(role, role_index, role.program.body, first_instance); c; c.next()) use c.op(), c.id(),
// c.binding().
class ProgramCursor {
 public:
  // `first_instance`: id of instances[0] (prologue, body, epilogue in a row). Empty segments and blocks are skipped; of
  // a `step`, instances that do not run in it.
  static constexpr std::int32_t kAnyStep = -1;
  ProgramCursor(const Role& role, int role_index, const std::vector<Instance>& instances, int first_instance,
                std::int32_t step = kAnyStep);

  explicit operator bool() const { return instance_ < instances_->size(); }
  const Op& op() const { return block_->ops[op_]; }
  OpId id() const;
  const Binding& binding() const { return binding_; }
  BlockId block() const;
  int op_in_block() const { return static_cast<int>(op_); }
  // True at the first op of a block call's iteration / of an instance.
  bool starts_block() const { return op_ == 0; }
  bool starts_instance() const { return position_ == 0; }
  void next();

 private:
  void settle();  // moves to the first existing op at or after the current place
  const Role* role_;
  const std::vector<Instance>* instances_;
  int role_index_, first_instance_;
  std::int32_t step_;
  std::size_t instance_ = 0, call_ = 0, op_ = 0;
  std::int32_t iteration_ = 0, position_ = 0;
  const Block* block_ = nullptr;
  Binding binding_;
};

// Id of the body's first instance, and number of instances in all.
inline int first_body_instance(const Program& p) {
  return static_cast<int>(p.prologue.size());
}

// Which copy of an event an op refers to: index in a dense table of event copies of the role.
// Tables have event_copies(role) entries; layout: all copies of event 0, then of event 1, …
int event_copies(const Role& role);
int event_copy(const Role& role, EventId event, const Binding& b);

// Byte offset of an operand in the role's arena for a rank. Requires a placed graph (memory.h).
std::int64_t operand_offset(const PlanGraph& graph, const Role& role, const Operand& operand, const Binding& b,
                            Rank rank);

// Match key of a communication op: equal on all its ranks, unique within a step.
struct MatchKey {
  std::int32_t tag = -1, layer = -1, microbatch = -1;  // layer is global
  friend auto operator<=>(const MatchKey&, const MatchKey&) = default;
};
MatchKey match_key(const Role& role, std::int32_t tag, const Binding& b);

}  // namespace foretrain::plan
