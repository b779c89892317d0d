#include "plan/workspace.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <utility>

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

bool in_workspace(const Buffer& b) {
  return b.lifetime == Lifetime::segment || b.lifetime == Lifetime::block;
}

// Instants that one op holds inside its block; empty: nothing in the block orders it before or after compute.
struct Hold {
  std::optional<std::int64_t> first, last;
};

std::vector<Hold> holds(const Block& block) {
  const std::size_t n = block.ops.size();
  std::vector<std::optional<std::size_t>> before(n), after(n);  // nearest compute op ordered before / after each op
  std::array<std::optional<std::size_t>, 128> previous;         // by StreamId
  std::vector<std::vector<std::size_t>> predecessors(n);
  for (std::size_t i = 0; i < n; ++i) {
    const Op& op = block.ops[i];
    predecessors[i].assign(op.after.begin(), op.after.end());
    if (std::optional<std::size_t>& p = previous[at(op.stream)]; p) {
      predecessors[i].push_back(*p);
    }
    previous[at(op.stream)] = i;
    for (const std::size_t p : predecessors[i]) {
      before[i] = std::max(before[i], block.ops[p].stream == kCompute ? p : before[p]);  // nothing is less than all
    }
  }
  for (std::size_t i = n; i-- > 0;) {
    for (const std::size_t p : predecessors[i]) {
      const std::optional<std::size_t> q = block.ops[i].stream == kCompute ? i : after[i];
      after[p] = after[p] && q ? std::min(*after[p], *q) : (after[p] ? after[p] : q);
    }
  }
  std::vector<Hold> result(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto p = static_cast<std::int64_t>(i);
    if (block.ops[i].stream == kCompute) {
      result[i] = {2 * p + 1, 2 * p + 1};
      continue;
    }
    if (before[i]) {
      result[i].first = 2 * static_cast<std::int64_t>(*before[i]) + 2;
    }
    if (after[i]) {
      result[i].last = 2 * static_cast<std::int64_t>(*after[i]);
    }
  }
  return result;
}

template <class F>
void for_each_operand(const Op& op, F&& f) {
  for (const Operand& o : op.reads) {
    f(o);
  }
  for (const Operand& o : op.writes) {
    f(o);
  }
  if (op.guard) {
    f(op.guard->scalar);
  }
}

void extend(std::vector<Interval>& intervals, std::vector<std::ptrdiff_t>& index, BufferId buffer, std::int64_t first,
            std::int64_t last) {
  std::ptrdiff_t& i = index[at(buffer)];
  if (i < 0) {
    i = static_cast<std::ptrdiff_t>(intervals.size());
    intervals.push_back({buffer, first, last});
    return;
  }
  Interval& known = intervals[static_cast<std::size_t>(i)];
  known.first = std::min(known.first, first);
  known.last = std::max(known.last, last);
}

// First fit in the given order: each buffer at the lowest offset where no conflicting one already lies.
Workspace first_fit(const Role& role, const std::vector<BufferId>& order,
                    const std::vector<std::vector<bool>>& conflicts) {
  Workspace result;
  result.offsets.assign(role.buffers.size(), 0);
  std::vector<BufferId> placed;
  for (const BufferId b : order) {
    const std::int64_t bytes = align(footprint(role.buffers[at(b)]));
    std::vector<std::pair<std::int64_t, std::int64_t>> taken;  // [begin, end)
    for (const BufferId other : placed) {
      if (conflicts[at(b)][at(other)]) {
        const std::int64_t begin = result.offsets[at(other)];
        taken.emplace_back(begin, begin + align(footprint(role.buffers[at(other)])));
      }
    }
    std::sort(taken.begin(), taken.end());
    std::int64_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + bytes <= begin) {
        break;
      }
      offset = std::max(offset, end);
    }
    result.offsets[at(b)] = offset;
    result.bytes = std::max(result.bytes, offset + bytes);
    placed.push_back(b);
  }
  return result;
}

}  // namespace

std::int64_t layer_stride(const Buffer& buffer) {
  const std::int64_t bytes = size_bytes(buffer.dtype, buffer.elements);
  const bool touches = buffer.lifetime == Lifetime::persistent &&
                       (buffer.kind == BufferKind::parameter || buffer.kind == BufferKind::gradient ||
                        buffer.kind == BufferKind::optimizer_state || buffer.kind == BufferKind::host);
  return touches ? bytes : align(bytes);
}

std::int64_t footprint(const Buffer& buffer) {
  return buffer.layers == 0 ? size_bytes(buffer.dtype, buffer.elements) : layer_stride(buffer) * buffer.layers;
}

std::vector<Interval> live_intervals(const Role& role, const Segment& segment) {
  std::int64_t end = 0;
  for (const BlockCall& call : segment.calls) {
    end += 2 * static_cast<std::int64_t>(role.blocks[at(call.block)].ops.size());
  }
  std::vector<Interval> result;
  std::vector<std::ptrdiff_t> in_segment(role.buffers.size(), -1);
  std::int64_t begin = 0;
  for (const BlockCall& call : segment.calls) {
    const Block& block = role.blocks[at(call.block)];
    const std::int64_t call_end = begin + 2 * static_cast<std::int64_t>(block.ops.size());
    const std::vector<Hold> held = holds(block);
    std::vector<std::ptrdiff_t> in_call(role.buffers.size(), -1);
    for (std::size_t i = 0; i < block.ops.size() && call.count > 0; ++i) {
      const Hold& hold = held[i];
      for_each_operand(block.ops[i], [&](const Operand& o) {
        const Lifetime lifetime = role.buffers[at(o.buffer)].lifetime;
        if (lifetime == Lifetime::block) {
          extend(result, in_call, o.buffer, hold.first ? begin + *hold.first : begin,
                 hold.last ? begin + *hold.last : call_end);
        } else if (lifetime == Lifetime::segment) {
          // From one iteration to the next it is live all through the block.
          std::int64_t first = hold.first ? begin + *hold.first : 0;
          std::int64_t last = hold.last ? begin + *hold.last : end;
          if (call.count > 1) {
            first = std::min(first, begin);
            last = std::max(last, call_end);
          }
          extend(result, in_segment, o.buffer, first, last);
        }
      });
    }
    begin = call_end;
  }
  return result;
}

Workspace place_workspace(const Role& role) {
  const std::size_t n = role.buffers.size();
  std::vector<std::vector<bool>> conflicts(n, std::vector<bool>(n, false));
  std::vector<std::pair<std::size_t, std::int64_t>> appears(n, {role.segments.size(), 0});  // (segment, first instant)
  for (std::size_t s = 0; s < role.segments.size(); ++s) {
    std::vector<Interval> intervals = live_intervals(role, role.segments[s]);
    std::stable_sort(intervals.begin(), intervals.end(),
                     [](const Interval& a, const Interval& b) { return a.first < b.first; });
    std::vector<Interval> live;
    for (const Interval& i : intervals) {
      live.erase(std::remove_if(live.begin(), live.end(), [&](const Interval& l) { return l.last < i.first; }),
                 live.end());
      for (const Interval& l : live) {
        conflicts[at(i.buffer)][at(l.buffer)] = conflicts[at(l.buffer)][at(i.buffer)] = true;
      }
      live.push_back(i);
      appears[at(i.buffer)] = std::min(appears[at(i.buffer)], {s, i.first});
    }
  }
  std::vector<BufferId> order;
  for (std::size_t b = 0; b < n; ++b) {
    if (in_workspace(role.buffers[b])) {
      order.push_back(static_cast<BufferId>(b));
    }
  }
  std::vector<BufferId> by_start = order;
  std::stable_sort(by_start.begin(), by_start.end(),
                   [&](BufferId a, BufferId b) { return appears[at(a)] < appears[at(b)]; });
  std::vector<BufferId> by_size = order;
  std::stable_sort(by_size.begin(), by_size.end(), [&](BufferId a, BufferId b) {
    return footprint(role.buffers[at(a)]) > footprint(role.buffers[at(b)]);
  });
  // Neither order wins always, and trying both costs nothing.
  Workspace first = first_fit(role, by_size, conflicts);
  Workspace second = first_fit(role, by_start, conflicts);
  return second.bytes < first.bytes ? second : first;
}

}  // namespace foretrain::plan
