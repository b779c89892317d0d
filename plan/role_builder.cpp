#include "plan/role_builder.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace foretrain::plan {

namespace {

// Index of the element of that name, or -1.
template <class Named>
int find_named(const std::vector<Named>& list, const std::string& name) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].name == name) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace

BufferId RoleBuilder::buffer(const std::string& name, Dtype dtype, std::int64_t elements, BufferKind kind,
                             Lifetime lifetime, int layers, std::int32_t layer_list) {
  const int known = find_named(role_.buffers, name);
  if (known >= 0) {
    const Buffer& b = role_.buffers[static_cast<std::size_t>(known)];
    CHECK(b.elements == elements && b.dtype == dtype && b.lifetime == lifetime, "buffer {} declared twice differently",
          name);
    return static_cast<BufferId>(known);
  }
  role_.buffers.push_back({name, dtype, elements, kind, lifetime, layers, false, layer_list});
  return static_cast<BufferId>(role_.buffers.size() - 1);
}

StreamId RoleBuilder::stream(const std::string& name, StreamKind kind, Axis axis, bool experts) {
  const int known = find_named(role_.streams, name);
  if (known >= 0) {
    return static_cast<StreamId>(known);
  }
  role_.streams.push_back({name, kind, axis, experts});
  return static_cast<StreamId>(role_.streams.size() - 1);
}

EventId RoleBuilder::event(const std::string& name, Replicas replicas) {
  const int known = find_named(role_.events, name);
  if (known >= 0) {
    return static_cast<EventId>(known);
  }
  role_.events.push_back({name, replicas});
  return static_cast<EventId>(role_.events.size() - 1);
}

std::int32_t RoleBuilder::tag(const std::string& name) {
  const auto at = std::find(graph_.tags.begin(), graph_.tags.end(), name);
  if (at != graph_.tags.end()) {
    return static_cast<std::int32_t>(at - graph_.tags.begin());
  }
  graph_.tags.push_back(name);
  return static_cast<std::int32_t>(graph_.tags.size() - 1);
}

std::int16_t RoleBuilder::runtime_extent(const RuntimeExtent& extent) {
  const int known = find_named(graph_.runtime_extents, extent.name);
  if (known >= 0) {
    return static_cast<std::int16_t>(known);
  }
  graph_.runtime_extents.push_back(extent);
  return static_cast<std::int16_t>(graph_.runtime_extents.size() - 1);
}

BlockId RoleBuilder::add(Block block) {
  role_.blocks.push_back(std::move(block));
  return static_cast<BlockId>(role_.blocks.size() - 1);
}

SegmentId RoleBuilder::add(Segment segment) {
  role_.segments.push_back(std::move(segment));
  return static_cast<SegmentId>(role_.segments.size() - 1);
}

Operand RoleBuilder::whole(BufferId buffer, int layer_delta) const {
  const Buffer& b = role_.buffers[static_cast<std::size_t>(buffer)];
  return {buffer, static_cast<std::int16_t>(layer_delta), kNoGroup, 0, b.elements, 0};
}

int BlockBuilder::emit(Work work, StreamId stream, Phase phase, std::vector<Operand> reads,
                       std::vector<Operand> writes) {
  Op op;
  op.work = std::move(work);
  op.stream = stream;
  op.phase = phase;
  op.reads = std::move(reads);
  op.writes = std::move(writes);
  op.after = latest_of_other_streams(op, true);
  if (stream != kCompute) {
    auto compute =
        std::find_if(block_.ops.rbegin(), block_.ops.rend(), [](const Op& o) { return o.stream == kCompute; });
    if (compute == block_.ops.rend()) {
      join(phase);
      compute = block_.ops.rbegin();
    }
    const auto position = static_cast<std::uint16_t>(block_.ops.rend() - compute - 1);
    std::erase_if(op.after, [this](std::uint16_t a) { return block_.ops[a].stream == kCompute; });
    op.after.push_back(position);
  }
  block_.ops.push_back(std::move(op));
  return static_cast<int>(block_.ops.size()) - 1;
}

int BlockBuilder::emit_ahead(Work work, StreamId stream, Phase phase, Operand write, EventId wait) {
  Op op;
  op.work = std::move(work);
  op.stream = stream;
  op.phase = phase;
  op.writes = {write};
  op.waits = {wait};
  block_.ops.push_back(std::move(op));
  return static_cast<int>(block_.ops.size()) - 1;
}

int BlockBuilder::emit_behind(Work work, StreamId stream, Phase phase, std::vector<Operand> reads, int after) {
  Op op;
  op.work = std::move(work);
  op.stream = stream;
  op.phase = phase;
  op.reads = std::move(reads);
  op.after = {static_cast<std::uint16_t>(after)};
  block_.ops.push_back(std::move(op));
  return static_cast<int>(block_.ops.size()) - 1;
}

int BlockBuilder::join(Phase phase, std::vector<EventId> waits, std::vector<EventId> records) {
  Op op;
  op.work = Join{};
  op.stream = kCompute;
  op.phase = phase;
  op.waits = std::move(waits);
  op.records = std::move(records);
  op.after = latest_of_other_streams(op, false);
  block_.ops.push_back(std::move(op));
  return static_cast<int>(block_.ops.size()) - 1;
}

void BlockBuilder::join_open(Phase phase) {
  std::vector<bool> waited(block_.ops.size(), false);
  for (const Op& op : block_.ops) {
    for (const std::uint16_t a : op.after) {
      waited[a] = waited[a] || op.stream == kCompute;
    }
  }
  for (std::size_t i = 0; i < block_.ops.size(); ++i) {
    if (block_.ops[i].stream != kCompute && !waited[i] && block_.ops[i].records.empty()) {
      join(phase);
      return;
    }
  }
}

// The latest (conflicting) op of every stream but op's own; it covers the earlier ones of that stream.
std::vector<std::uint16_t> BlockBuilder::latest_of_other_streams(const Op& op, bool conflicting_only) const {
  std::vector<std::uint16_t> latest;
  std::vector<bool> seen(role_.streams.size(), false);
  for (std::size_t i = block_.ops.size(); i-- > 0;) {
    const Op& earlier = block_.ops[i];
    const auto s = static_cast<std::size_t>(earlier.stream);
    if (earlier.stream != op.stream && !seen[s] && (!conflicting_only || conflict(earlier, op))) {
      seen[s] = true;
      latest.push_back(static_cast<std::uint16_t>(i));
    }
  }
  return latest;
}

bool BlockBuilder::conflict(const Op& earlier, const Op& later) const {
  const auto any = [this](const std::vector<Operand>& a, const std::vector<Operand>& b) {
    return std::any_of(a.begin(), a.end(), [&](const Operand& x) {
      return std::any_of(b.begin(), b.end(), [&](const Operand& y) { return overlap(x, y); });
    });
  };
  return any(earlier.writes, later.reads) || any(earlier.writes, later.writes) || any(earlier.reads, later.writes);
}

bool BlockBuilder::overlap(const Operand& a, const Operand& b) const {
  if (a.buffer != b.buffer) {
    return false;
  }
  if (a.rank_group != kNoGroup || b.rank_group != kNoGroup) {
    return true;  // conservative: some rank's part may be the other's
  }
  const std::int64_t layer = role_.buffers[static_cast<std::size_t>(a.buffer)].elements;
  const std::int64_t a0 = a.layer_delta * layer + a.offset;
  const std::int64_t b0 = b.layer_delta * layer + b.offset;
  return a0 < b0 + b.elements && b0 < a0 + a.elements;
}

}  // namespace foretrain::plan
