#include "plan/memory.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "plan/workspace.h"

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

// Buffers of one lifetime one behind the other from `begin` on, on the device or on its host; returns the bytes they
// take.
std::int64_t place_row(Role& role, Lifetime lifetime, std::int64_t begin, bool host = false) {
  std::int64_t end = begin;
  for (std::size_t b = 0; b < role.buffers.size(); ++b) {
    if (role.buffers[b].lifetime == lifetime && (role.buffers[b].kind == BufferKind::host) == host) {
      role.memory.placements[b] = {end, layer_stride(role.buffers[b]), 0};
      end += align(footprint(role.buffers[b]));
    }
  }
  for (std::size_t b = 0; b < role.buffers.size() && lifetime != Lifetime::persistent; ++b) {
    if (role.buffers[b].lifetime == lifetime && (role.buffers[b].kind == BufferKind::host) == host) {
      role.memory.placements[b].copy_stride = end - begin;
    }
  }
  return end - begin;
}

// How a segment uses the copy of a lifetime that its instance has.
struct CopyUse {
  bool touches = false;    // reads or writes a buffer in it
  bool continues = false;  // reads one that it has not written itself: an earlier instance did
};

// By the calls that are `beside`, or the others.
CopyUse copy_use(const Role& role, Lifetime lifetime, const Segment& segment, bool beside) {
  CopyUse use;
  std::vector<bool> written(role.buffers.size(), false);
  const auto in_copy = [&](const Operand& o) { return role.buffers[at(o.buffer)].lifetime == lifetime; };
  for (const BlockCall& call : segment.calls) {
    if (call.beside != beside) {
      continue;
    }
    for (const Op& op : role.blocks[at(call.block)].ops) {
      for (const Operand& o : op.reads) {
        use.touches |= in_copy(o);
        use.continues |= in_copy(o) && !written[at(o.buffer)];
      }
      for (const Operand& o : op.writes) {
        use.touches |= in_copy(o);
        written[at(o.buffer)] = true;
      }
    }
  }
  return use;
}

// Copies in use during each instance.
std::vector<std::int64_t> copies_in_use(const Role& role, Lifetime lifetime, const std::vector<Instance>& instances) {
  std::vector<std::array<CopyUse, 2>> uses;
  for (const Segment& s : role.segments) {
    uses.push_back({copy_use(role, lifetime, s, false), copy_use(role, lifetime, s, true)});
  }
  std::vector<std::int64_t> in_use(instances.size(), 0);
  std::vector<std::ptrdiff_t> last_use(at(role.copies(lifetime)), -1);
  for (std::size_t i = 0; i < instances.size(); ++i) {
    for (const bool beside : {false, true}) {
      const CopyUse& use = uses[at(instances[i].segment)][beside ? 1 : 0];
      if (!use.touches) {
        continue;
      }
      const std::int32_t copy = instances[i].side(beside).copy(lifetime);
      CHECK(copy >= 0 && copy < role.copies(lifetime), "role {}: instance {} uses {} {} of {}", role.name, i,
            name(lifetime), copy, role.copies(lifetime));
      std::ptrdiff_t& last = last_use[at(copy)];
      const std::size_t from = use.continues && last >= 0 ? static_cast<std::size_t>(last) + 1 : i;
      for (std::size_t j = from; j <= i; ++j) {
        ++in_use[j];
      }
      last = static_cast<std::ptrdiff_t>(i);
    }
  }
  return in_use;
}

bool in_workspace(const Buffer& b) {
  return b.lifetime == Lifetime::segment || b.lifetime == Lifetime::block;
}

void place_around(Role& role, const Workspace& workspace) {
  MemoryPlan& memory = role.memory;
  memory = {};
  memory.placements.resize(role.buffers.size());
  const std::int64_t persistent = place_row(role, Lifetime::persistent, 0);
  const std::int64_t slots = place_row(role, Lifetime::slot, persistent) * role.slots;
  const std::int64_t holds = place_row(role, Lifetime::hold, persistent + slots) * role.holds;
  const std::int64_t rings = place_row(role, Lifetime::ring, persistent + slots + holds) * role.rings;
  const std::int64_t begin = persistent + slots + holds + rings;
  for (std::size_t b = 0; b < role.buffers.size(); ++b) {
    const Buffer& buffer = role.buffers[b];
    if (in_workspace(buffer)) {
      memory.placements[b] = {begin + workspace.offsets[b], layer_stride(buffer), 0};
    }
  }
  memory.persistent = {persistent};
  memory.slots = {slots};
  memory.holds = {holds};
  memory.rings = {rings};
  memory.workspace = {workspace.bytes};
  memory.arena = {begin + workspace.bytes};
  const std::int64_t host = place_row(role, Lifetime::persistent, memory.arena.value, true);
  memory.host = {host + place_row(role, Lifetime::slot, memory.arena.value + host, true) * role.slots};

  Bytes& rest = memory.by_kind[at(static_cast<int>(BufferKind::workspace))];
  rest = memory.arena;
  for (const Buffer& b : role.buffers) {
    if (b.kind != BufferKind::host && !in_workspace(b)) {
      const Bytes bytes{size_bytes(b.dtype, b.elements) * std::max(b.layers, 1) * role.copies(b.lifetime)};
      rest -= bytes;
      memory.by_kind[at(static_cast<int>(b.kind))] += bytes;
    }
  }
}

}  // namespace

void place(Role& role) {
  place_around(role, place_workspace(role));
}

void place_like(Role& role, const Role& placed) {
  const std::int64_t begin = placed.memory.arena.value - placed.memory.workspace.value;
  Workspace workspace{std::vector<std::int64_t>(placed.buffers.size(), 0), placed.memory.workspace.value};
  for (std::size_t b = 0; b < placed.buffers.size(); ++b) {
    if (in_workspace(placed.buffers[b])) {
      workspace.offsets[b] = placed.memory.placements[b].offset - begin;
    }
  }
  place_around(role, workspace);
}

MemoryCurve memory_curve(const Role& role) {
  std::vector<Instance> instances = role.program.prologue;
  instances.insert(instances.end(), role.program.body.begin(), role.program.body.end());
  instances.insert(instances.end(), role.program.epilogue.begin(), role.program.epilogue.end());

  const MemoryPlan& memory = role.memory;
  const std::int64_t workspace = memory.arena.value - memory.workspace.value;
  std::vector<Bytes> peaks;  // workspace of each segment
  for (const Segment& s : role.segments) {
    Bytes peak{};
    for (const Interval& i : live_intervals(role, s)) {
      const std::int64_t offset = memory.placements[at(i.buffer)].offset - workspace;
      peak = std::max(peak, Bytes{offset + align(footprint(role.buffers[at(i.buffer)]))});
    }
    peaks.push_back(peak);
  }
  const std::vector<std::int64_t> slots = copies_in_use(role, Lifetime::slot, instances);
  const std::vector<std::int64_t> holds = copies_in_use(role, Lifetime::hold, instances);
  const std::int64_t slot_bytes = role.slots == 0 ? 0 : memory.slots.value / role.slots;
  const std::int64_t hold_bytes = role.holds == 0 ? 0 : memory.holds.value / role.holds;

  MemoryCurve curve;
  for (std::size_t i = 0; i < instances.size(); ++i) {
    curve.live.push_back(memory.persistent + Bytes{slots[i] * slot_bytes + holds[i] * hold_bytes} + memory.rings +
                         peaks[at(instances[i].segment)]);
    curve.peak = std::max(curve.peak, curve.live.back());
  }
  return curve;
}

std::vector<LargeBuffer> largest_buffers(const Role& role, std::size_t n) {
  std::vector<LargeBuffer> all;
  for (const Buffer& b : role.buffers) {
    if (b.kind == BufferKind::host) {
      continue;
    }
    all.push_back(
        {b.name, b.kind, Bytes{size_bytes(b.dtype, b.elements) * std::max(b.layers, 1) * role.copies(b.lifetime)}});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const LargeBuffer& a, const LargeBuffer& b) { return a.bytes > b.bytes; });
  all.resize(std::min(n, all.size()));
  return all;
}

}  // namespace foretrain::plan
