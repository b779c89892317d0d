// Lifetimes -> offsets. The simulator reports this plan's bytes and the executor allocates exactly this arena.
//
// Arena: persistent buffers | slots x (slot buffers, layer copies inside) | holds x (hold buffers) | rings x (ring
// buffers) | workspace. Segment and block buffers share the workspace: they get offsets by first fit over the op
// positions where they live, per segment; the workspace is as large as the hungriest segment. A block buffer lives from
// its first to its last use in one block iteration, a segment buffer from its first to its last use in the segment's
// walk. A use by an op of another stream lasts from the last compute op ordered before it to the first one ordered
// after it (through `after` and the stream's order), or to the ends of the block (segment buffers: of the segment)
// where there is none. All offsets are multiples of 64 bytes. By kind: persistent, slot, hold and ring buffers count as
// what they are; the workspace and alignment as workspace. Behind the arena, with offsets that go on from it: the
// buffers on the host, persistent ones and slots, which no figure above counts.
#pragma once

#include <string>
#include <vector>

#include "plan/graph.h"

namespace foretrain::plan {

// Fills role.memory. REQUIRES: everything else of the role is complete.
void place(Role& role);
// The same for a role with the same buffers and blocks as one that was placed, and perhaps other numbers of copies.
void place_like(Role& role, const Role& placed);

// Bytes live during each instance of prologue, body, epilogue: persistent + slots and holds in use + rings + the
// segment's own workspace peak. A slot or hold is in use from the instance that first writes it to the last that reads
// it.
struct MemoryCurve {
  std::vector<Bytes> live;  // by instance
  Bytes peak;               // <= role.memory.arena
};
MemoryCurve memory_curve(const Role& role);

// The device's n largest buffers (all copies), largest first.
struct LargeBuffer {
  std::string name;
  BufferKind kind{};
  Bytes bytes;
};
std::vector<LargeBuffer> largest_buffers(const Role& role, std::size_t n);

}  // namespace foretrain::plan
