// Offsets for buffers that live inside one segment instance or one block iteration, so that no two live at once
// overlap.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/graph.h"

namespace foretrain::plan {

inline constexpr std::int64_t kAlignment = 64;  // bytes; a cache line, and what vector loads like
constexpr std::int64_t align(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Bytes from one layer's copy to the next (of the one copy, if not per layer), and of all of them. Parameters,
// gradients and optimizer states of consecutive layers touch: buckets run over several of them.
std::int64_t layer_stride(const Buffer& buffer);
std::int64_t footprint(const Buffer& buffer);

// When a buffer is live in a segment. Time runs over the segment's op positions, every call folded to one iteration: an
// op of the compute stream at position p holds instant 2p + 1, and instant 2p is the gap before it. Ops of other
// streams run somewhere between the last compute op before them and the first one after them, in the order that `after`
// and their stream give; they hold everything from gap to gap.
struct Interval {
  BufferId buffer = -1;
  std::int64_t first = 0, last = 0;  // inclusive
};
std::vector<Interval> live_intervals(const Role& role, const Segment& segment);

struct Workspace {
  std::vector<std::int64_t> offsets;  // by BufferId; 0 for buffers that do not live here
  std::int64_t bytes = 0;
};
Workspace place_workspace(const Role& role);

}  // namespace foretrain::plan
