#include "plan/cursor.h"

#include "base/error.h"

namespace foretrain::plan {

namespace {

// How many copies of an event there are, and which of them a binding means.
int copies(const Role& role, const Event& event) {
  switch (event.replicas) {
    case Replicas::once: return 1;
    case Replicas::per_slot: return role.slots;
    case Replicas::per_ring: return role.rings;
    case Replicas::per_layer: return static_cast<int>(role.global_layer.size());
  }
  return 0;
}

int copy_of(const Event& event, const Binding& b) {
  switch (event.replicas) {
    case Replicas::once: return 0;
    case Replicas::per_slot: return b.slot;
    case Replicas::per_ring: return b.ring;
    case Replicas::per_layer: return b.layer;
  }
  return -1;
}

}  // namespace

Binding bind(const Segment& segment, const Instance& instance, const BlockCall& call, std::int32_t iteration) {
  const InstanceSide side = instance.side(call.beside);
  Binding b;
  b.microbatch = side.microbatch;
  b.slot = side.slot;
  b.ring = side.ring;
  b.hold = side.hold;
  b.layer = call.first < 0 ? -1 : call.first + iteration * call.step;
  b.first_layer = segment.first_layer_of(call.beside);
  return b;
}

ProgramCursor::ProgramCursor(const Role& role, int role_index, const std::vector<Instance>& instances,
                             int first_instance, std::int32_t step)
    : role_(&role), instances_(&instances), role_index_(role_index), first_instance_(first_instance), step_(step) {
  settle();
}

OpId ProgramCursor::id() const {
  return {role_index_, first_instance_ + static_cast<std::int32_t>(instance_), position_};
}

BlockId ProgramCursor::block() const {
  const Instance& instance = (*instances_)[instance_];
  return role_->segments[static_cast<std::size_t>(instance.segment)].calls[call_].block;
}

void ProgramCursor::next() {
  ++op_;
  ++position_;
  if (op_ == block_->ops.size()) {
    op_ = 0;
    ++iteration_;
    settle();
  }
}

void ProgramCursor::settle() {
  for (; instance_ < instances_->size(); ++instance_, call_ = 0, position_ = 0) {
    const Instance& instance = (*instances_)[instance_];
    if (step_ != kAnyStep && !instance.runs_in(step_)) {
      continue;
    }
    const Segment& segment = role_->segments[static_cast<std::size_t>(instance.segment)];
    for (; call_ < segment.calls.size(); ++call_, iteration_ = 0) {
      const BlockCall& call = segment.calls[call_];
      block_ = &role_->blocks[static_cast<std::size_t>(call.block)];
      if (iteration_ < call.count && !block_->ops.empty()) {
        binding_ = bind(segment, instance, call, iteration_);
        return;
      }
    }
  }
}

int event_copies(const Role& role) {
  int n = 0;
  for (const Event& event : role.events) {
    n += copies(role, event);
  }
  return n;
}

int event_copy(const Role& role, EventId event, const Binding& b) {
  int first = 0;
  for (EventId i = 0; i < event; ++i) {
    first += copies(role, role.events[static_cast<std::size_t>(i)]);
  }
  const Event& e = role.events[static_cast<std::size_t>(event)];
  const int copy = copy_of(e, b);
  CHECK(copy >= 0 && copy < copies(role, e), "role {}: event {} has no copy {}", role.name, e.name, copy);
  return first + copy;
}

std::int64_t operand_offset(const PlanGraph& graph, const Role& role, const Operand& operand, const Binding& b,
                            Rank rank) {
  const Buffer& buffer = role.buffers[static_cast<std::size_t>(operand.buffer)];
  const Placement& placement = role.memory.placements[static_cast<std::size_t>(operand.buffer)];
  std::int64_t offset = placement.offset;
  if (buffer.layers > 0) {
    const std::int32_t bound = b.layer < 0 ? b.first_layer : b.layer;
    const std::int32_t layer = layer_copy(role, buffer, bound, b.first_layer, operand.layer_delta);
    CHECK(layer >= 0 && layer < buffer.layers, "role {}: buffer {} has no layer {} of {}", role.name, buffer.name,
          layer, buffer.layers);
    offset += layer * placement.layer_stride;
  }
  if (has_copies(buffer.lifetime)) {
    const std::int32_t copy = buffer.lifetime == Lifetime::slot   ? b.slot
                              : buffer.lifetime == Lifetime::hold ? b.hold
                                                                  : b.ring;
    CHECK(copy >= 0 && copy < role.copies(buffer.lifetime), "role {}: buffer {} has no copy {}", role.name, buffer.name,
          copy);
    offset += copy * placement.copy_stride;
  }
  std::int64_t elements = operand.offset;
  if (operand.rank_group != kNoGroup) {
    const Group& group = graph.groups[static_cast<std::size_t>(operand.rank_group)];
    elements += index_in_group(graph.mesh, group, rank) * operand.rank_stride;
  }
  return offset + size_bytes(buffer.dtype, elements);
}

MatchKey match_key(const Role& role, std::int32_t tag, const Binding& b) {
  return {tag, b.layer < 0 ? -1 : role.global_layer[static_cast<std::size_t>(b.layer)], b.microbatch};
}

}  // namespace foretrain::plan
