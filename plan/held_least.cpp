// A bound from below on what plan/held_memory.h finds by replay: the tensors that are always there, and of each
// microbatch, between two of a chunk's forward, backward and weight gradient, those that are touched before and after.
#include <algorithm>

#include "plan/held_step.h"

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

// A backward whose weight gradient is apart has that still to come.
constexpr std::uint8_t kByForward = 1, kByBackward = 2, kByWeight = 4;
constexpr unsigned kBeside = 3;  // bits further for the other side of a segment

std::uint8_t by(const InstanceSide& side) {
  return side.ring < 0 ? kByForward : side.slot < 0 ? kByWeight : kByBackward;
}

// Tensors of one copy of all slots, holds and rings, and by what of a chunk they are touched.
class CarriedBytes {
 public:
  explicit CarriedBytes(const Role& role) : role_(role), first_(role.buffers.size(), -1), done_(role.segments.size()) {
    for (std::size_t b = 0; b < role.buffers.size(); ++b) {
      const Buffer& buffer = role.buffers[b];
      if (buffer.kind != BufferKind::host && has_copies(buffer.lifetime)) {
        first_[b] = static_cast<std::int32_t>(bytes_.size());
        bytes_.resize(bytes_.size() + at(std::max(buffer.layers, 1)), size_bytes(buffer.dtype, buffer.elements));
      }
    }
  }

  void walk(const Segment& segment, bool beside, std::uint8_t by) {
    std::uint8_t& done = done_[static_cast<std::size_t>(&segment - role_.segments.data())];
    const auto bit = static_cast<std::uint8_t>(beside ? by << kBeside : by);
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

  // Of one microbatch, by chunk: touched by one of `before` and one of `after`.
  std::vector<std::int64_t> between(std::uint8_t before, std::uint8_t after) const {
    std::vector<std::int64_t> result(touched_.size(), 0);
    for (std::size_t chunk = 0; chunk < touched_.size(); ++chunk) {
      for (std::size_t i = 0; i < bytes_.size(); ++i) {
        const std::uint8_t touched = touched_[chunk][i];
        result[chunk] += (touched & before) != 0 && (touched & after) != 0 ? bytes_[i] : 0;
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
  std::vector<std::int32_t> first_;                 // by buffer; -1: it has no copies
  std::vector<std::int64_t> bytes_;                 // by tensor
  std::vector<std::vector<std::uint8_t>> touched_;  // by chunk and tensor
  std::vector<std::uint8_t> done_;                  // by segment: which walks
};

// A chunk's forward, backward or weight gradient of a microbatch that is replayed.
struct Step {
  std::size_t unit = 0, chunk = 0;  // unit: of a chunk and a microbatch
  std::uint8_t by = 0;
};

std::vector<Step> steps_of(const Role& role) {
  const ReplayedMicrobatches replayed(role.program.body);
  std::vector<Step> all;
  for (const Instance& instance : role.program.body) {
    // Of a pair the backward first: somewhere on the way both have less.
    for (const bool beside : {true, false}) {
      const InstanceSide side = instance.side(beside);
      const std::int32_t chunk = role.segments[at(instance.segment)].chunk_of(beside);
      if (chunk >= 0 && side.microbatch >= 0 && replayed.contains(side.microbatch)) {
        all.push_back({at(chunk) * at(replayed.count()) + at(side.microbatch), at(chunk), by(side)});
      }
    }
  }
  return all;
}

// At most, of the microbatches under way.
std::int64_t most_carried(const Role& role, const CarriedBytes& carried) {
  const std::vector<std::int64_t> forward = carried.between(kByForward, kByBackward | kByWeight),
                                  backward = carried.between(kByForward | kByBackward, kByWeight);
  const std::vector<Step> steps = steps_of(role);
  std::size_t units = 0;
  for (const Step& s : steps) {
    units = std::max(units, s.unit + 1);
  }
  std::vector<bool> is_split(units, false);
  for (const Step& s : steps) {
    is_split[s.unit] = is_split[s.unit] || s.by == kByWeight;
  }
  std::vector<std::int64_t> held(units, 0);
  std::int64_t bytes = 0, most = 0;
  for (const Step& s : steps) {
    bytes -= held[s.unit];
    held[s.unit] = s.by == kByForward                        ? forward[s.chunk]
                   : s.by == kByBackward && is_split[s.unit] ? backward[s.chunk]
                                                             : 0;
    bytes += held[s.unit];
    most = std::max(most, bytes);
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
  return {always + most_carried(role, carried)};
}

}  // namespace foretrain::plan
