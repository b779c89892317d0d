// A bound from below on what plan/held_memory.h finds by replay: the tensors that are always there, and of each
// microbatch between a chunk's forward and its backward those that both of them touch.
#include <algorithm>

#include "plan/held_step.h"

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

constexpr std::uint8_t kByForward = 1, kByBackward = 2, kByBoth = kByForward | kByBackward;

// Tensors of one copy of all slots and holds, and which of them the forwards and backwards of a chunk touch.
class CarriedBytes {
 public:
  explicit CarriedBytes(const Role& role) : role_(role), first_(role.buffers.size(), -1), done_(role.segments.size()) {
    for (std::size_t b = 0; b < role.buffers.size(); ++b) {
      const Buffer& buffer = role.buffers[b];
      if (buffer.kind != BufferKind::host && (buffer.lifetime == Lifetime::slot || buffer.lifetime == Lifetime::hold)) {
        first_[b] = static_cast<std::int32_t>(bytes_.size());
        bytes_.resize(bytes_.size() + at(std::max(buffer.layers, 1)), size_bytes(buffer.dtype, buffer.elements));
      }
    }
  }

  void walk(const Segment& segment, bool beside, std::uint8_t by) {
    std::uint8_t& done = done_[static_cast<std::size_t>(&segment - role_.segments.data())];
    const auto bit = static_cast<std::uint8_t>(beside ? by << 2U : by);
    const std::int32_t chunk = segment.chunk_of(beside);
    if (chunk < 0 || (done & bit) != 0) {
      return;
    }
    done = static_cast<std::uint8_t>(done | bit);
    touched_.resize(std::max(touched_.size(), at(chunk) + 1), std::vector<std::uint8_t>(bytes_.size(), 0));
    for (const BlockCall& call : segment.calls) {
      for (const Op& op : role_.blocks[at(call.block)].ops) {
        if (call.beside == beside) {
          walk(op.reads, segment, call, by);
          walk(op.writes, segment, call, by);
        }
      }
    }
  }

  std::vector<std::int64_t> by_chunk() const {
    std::vector<std::int64_t> result(touched_.size(), 0);
    for (std::size_t chunk = 0; chunk < touched_.size(); ++chunk) {
      for (std::size_t i = 0; i < bytes_.size(); ++i) {
        result[chunk] += touched_[chunk][i] == kByBoth ? bytes_[i] : 0;
      }
    }
    return result;
  }

 private:
  void walk(const std::vector<Operand>& operands, const Segment& segment, const BlockCall& call, std::uint8_t by) {
    const std::int32_t first_layer = segment.first_layer_of(call.beside);
    for (const Operand& o : operands) {
      const Buffer& buffer = role_.buffers[at(o.buffer)];
      for (std::int32_t i = 0; i < call.count && first_[at(o.buffer)] >= 0; ++i) {
        const std::int32_t layer = call.first < 0 ? first_layer : call.first + i * call.step;
        const std::int32_t copy =
            buffer.layers == 0
                ? 0
                : std::clamp(layer_copy(role_, buffer, layer, first_layer, o.layer_delta), 0, buffer.layers - 1);
        std::uint8_t& touched = touched_[at(segment.chunk_of(call.beside))][at(first_[at(o.buffer)] + copy)];
        touched = static_cast<std::uint8_t>(touched | by);
      }
    }
  }

  const Role& role_;
  std::vector<std::int32_t> first_;                 // by buffer; -1: no slot's or hold's
  std::vector<std::int64_t> bytes_;                 // by tensor
  std::vector<std::vector<std::uint8_t>> touched_;  // by chunk and tensor
  std::vector<std::uint8_t> done_;                  // by segment: which walks
};

std::uint8_t by(const InstanceSide& side) {
  return side.ring < 0 ? kByForward : kByBackward;
}

// Of microbatches between their forward and backward on a chunk, at most.
std::int64_t most_carried(const Role& role, const std::vector<std::int64_t>& carried) {
  const ReplayedMicrobatches replayed(role.program.body);
  std::vector<bool> open(carried.size() * at(replayed.count()), false);
  std::int64_t bytes = 0, most = 0;
  for (const Instance& instance : role.program.body) {
    // Of a pair the backward first: somewhere on the way both have less.
    for (const bool beside : {true, false}) {
      const InstanceSide side = instance.side(beside);
      const std::int32_t chunk = role.segments[at(instance.segment)].chunk_of(beside);
      if (chunk < 0 || side.microbatch < 0 || !replayed.contains(side.microbatch)) {
        continue;
      }
      const std::size_t unit = at(chunk) * at(replayed.count()) + at(side.microbatch);
      const bool opens = by(side) == kByForward;
      bytes += opens == open[unit] ? 0 : opens ? carried[at(chunk)] : -carried[at(chunk)];
      open[unit] = opens;
      most = std::max(most, bytes);
    }
  }
  return most;
}

}  // namespace

Bytes least_held(const Role& role) {
  std::int64_t always = 0;
  for (const Buffer& b : role.buffers) {
    const bool model = b.kind == BufferKind::parameter || b.kind == BufferKind::gradient ||
                       b.kind == BufferKind::optimizer_state || b.kind == BufferKind::input;
    if (model && b.lifetime == Lifetime::persistent) {
      always += size_bytes(b.dtype, b.elements) * std::max(b.layers, 1);
    }
  }
  CarriedBytes carried(role);
  for (const Instance& instance : role.program.body) {
    for (const bool beside : {false, true}) {
      if (instance.side(beside).microbatch >= 0) {
        carried.walk(role.segments[at(instance.segment)], beside, by(instance.side(beside)));
      }
    }
  }
  return {always + most_carried(role, carried.by_chunk())};
}

}  // namespace foretrain::plan
