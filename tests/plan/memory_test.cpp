#include "plan/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include "plan/workspace.h"

namespace foretrain::plan {
namespace {

Buffer buffer(const std::string& name, Lifetime lifetime, std::int64_t bytes, int layers = 0,
              BufferKind kind = BufferKind::activation) {
  return {name, Dtype::u8, bytes, kind, lifetime, layers};
}

Operand use(int id) {
  Operand o;
  o.buffer = static_cast<BufferId>(id);
  return o;
}

Op op(StreamId stream, std::vector<int> reads, std::vector<int> writes, std::vector<std::uint16_t> after = {}) {
  Op o;
  o.stream = stream;
  o.after = std::move(after);
  for (const int r : reads) {
    o.reads.push_back(use(r));
  }
  for (const int w : writes) {
    o.writes.push_back(use(w));
  }
  return o;
}

Role role_with(std::vector<Buffer> buffers, std::vector<Block> blocks, std::vector<std::vector<BlockCall>> segments) {
  Role role;
  role.name = "stage 0";
  role.buffers = std::move(buffers);
  role.blocks = std::move(blocks);
  for (std::vector<BlockCall>& calls : segments) {
    Segment s;
    s.calls = std::move(calls);
    role.segments.push_back(std::move(s));
  }
  return role;
}

std::vector<std::int64_t> offsets(const Role& role) {
  std::vector<std::int64_t> result;
  for (const Placement& p : role.memory.placements) {
    result.push_back(p.offset);
  }
  return result;
}

std::int64_t kind_bytes(const Role& role, BufferKind k) {
  return role.memory.by_kind[static_cast<int>(k)].value;
}

std::int64_t sum_of_kinds(const Role& role) {
  std::int64_t sum = 0;
  for (const Bytes b : role.memory.by_kind) {
    sum += b.value;
  }
  return sum;
}

TEST(Place, AnEmptyRoleNeedsNothing) {
  Role role;
  place(role);
  EXPECT_EQ(role.memory.arena.value, 0);
  EXPECT_EQ(sum_of_kinds(role), 0);
  EXPECT_TRUE(memory_curve(role).live.empty());
  EXPECT_EQ(memory_curve(role).peak.value, 0);
  EXPECT_TRUE(largest_buffers(role, 3).empty());
}

// Parameters: 3 layers of 96 bytes touch: 288, the next at 320. The 10 bytes of input end at 330, aligned 384.
// Slot: x has 2 layers of 100 bytes, 128 apart: 256; ids 40 bytes: 64; 320 each, 2 slots: 384 to 1024.
// Ring: 70 bytes: 128 each, 3 rings: 1024 to 1408.
// Workspace: 65 bytes: 128. Arena 1536.
TEST(Place, PutsTheRegionsOneBehindTheOther) {
  Role role = role_with(
      {buffer("weights", Lifetime::persistent, 96, 3, BufferKind::parameter), buffer("x", Lifetime::slot, 100, 2),
       buffer("dx", Lifetime::ring, 70, 0, BufferKind::communication), buffer("scratch", Lifetime::block, 65),
       buffer("norms", Lifetime::persistent, 10, 0, BufferKind::input),
       buffer("ids", Lifetime::slot, 40, 0, BufferKind::input)},
      {{"layer", {op(kCompute, {0}, {3})}}}, {{{0, 1, -1, 1}}});
  role.slots = 2;
  role.rings = 3;
  place(role);
  const MemoryPlan& m = role.memory;
  EXPECT_EQ(offsets(role), (std::vector<std::int64_t>{0, 384, 1024, 1408, 320, 640}));
  EXPECT_EQ(m.placements[0].layer_stride, 96);
  EXPECT_EQ(m.placements[1].layer_stride, 128);
  EXPECT_EQ(m.placements[1].copy_stride, 320);
  EXPECT_EQ(m.placements[5].copy_stride, 320);
  EXPECT_EQ(m.placements[2].copy_stride, 128);
  EXPECT_EQ(m.placements[0].copy_stride, 0);
  EXPECT_EQ(m.persistent.value, 384);
  EXPECT_EQ(m.slots.value, 640);
  EXPECT_EQ(m.rings.value, 384);
  EXPECT_EQ(m.workspace.value, 128);
  EXPECT_EQ(m.arena.value, 1536);
  EXPECT_EQ(kind_bytes(role, BufferKind::parameter), 288);
  EXPECT_EQ(kind_bytes(role, BufferKind::activation), 2 * 2 * 100);
  EXPECT_EQ(kind_bytes(role, BufferKind::communication), 3 * 70);
  EXPECT_EQ(kind_bytes(role, BufferKind::input), 10 + 2 * 40);
  EXPECT_EQ(kind_bytes(role, BufferKind::workspace), 1536 - 288 - 400 - 210 - 90);
  EXPECT_EQ(sum_of_kinds(role), 1536);
  place(role);  // placing again changes nothing
  EXPECT_EQ(role.memory.arena.value, 1536);

  const std::vector<LargeBuffer> largest = largest_buffers(role, 3);
  ASSERT_EQ(largest.size(), 3u);
  EXPECT_EQ(largest[0].name, "x");  // 2 slots x 2 layers x 100
  EXPECT_EQ(largest[0].bytes.value, 400);
  EXPECT_EQ(largest[1].name, "weights");
  EXPECT_EQ(largest[2].name, "dx");
  EXPECT_EQ(largest_buffers(role, 100).size(), 6u);
}

// 0 -> 1 -> 2 -> 3, each read by the next op only: 0 and 2 share a place, 1 and 3 another.
TEST(Workspace, SharesBytesAlongAChain) {
  Role role =
      role_with({buffer("a", Lifetime::block, 64), buffer("b", Lifetime::block, 64), buffer("c", Lifetime::block, 64),
                 buffer("d", Lifetime::block, 64)},
                {{"chain", {op(0, {}, {0}), op(0, {0}, {1}), op(0, {1}, {2}), op(0, {2}, {3})}}}, {{{0, 4, 0, 1}}});
  place(role);
  EXPECT_EQ(offsets(role), (std::vector<std::int64_t>{0, 64, 0, 64}));
  EXPECT_EQ(role.memory.arena.value, 128);
}

// a (64) and b (128) are live together, then b and c (192). By size: c at 0, b at 192, a (no conflict with c) at 0:
// 320. By start: a at 0, b at 64, c does not fit below b: 192: 384. The smaller stands.
TEST(Workspace, KeepsTheBetterOfTwoOrders) {
  Role role = role_with(
      {buffer("a", Lifetime::block, 64), buffer("b", Lifetime::block, 128), buffer("c", Lifetime::block, 192)},
      {{"block", {op(0, {}, {0}), op(0, {0}, {1}), op(0, {1}, {2})}}}, {{{0, 1, -1, 1}}});
  place(role);
  EXPECT_EQ(offsets(role), (std::vector<std::int64_t>{0, 192, 0}));
  EXPECT_EQ(role.memory.arena.value, 320);
}

// Buffers of different blocks never live together, and the workspace is that of the hungriest segment.
TEST(Workspace, IsAsLargeAsTheHungriestSegment) {
  Role role = role_with({buffer("a", Lifetime::block, 64), buffer("b", Lifetime::block, 256),
                         buffer("c", Lifetime::block, 128), buffer("s", Lifetime::segment, 64)},
                        {{"first", {op(0, {}, {0, 3})}}, {"second", {op(0, {3}, {1})}}, {"third", {op(0, {}, {2})}}},
                        {{{0, 1, -1, 1}, {1, 1, -1, 1}}, {{2, 1, -1, 1}}});
  place(role);
  // b and s live together: 320; a only with s; c alone.
  EXPECT_EQ(role.memory.arena.value, 320);
  EXPECT_EQ(offsets(role), (std::vector<std::int64_t>{0, 0, 0, 256}));
}

// s is carried from one iteration to the next: it is live also before its first use in the block, where a is.
TEST(Workspace, ASegmentBufferIsLiveAllThroughALoop) {
  const std::vector<Buffer> buffers{buffer("a", Lifetime::block, 64), buffer("s", Lifetime::segment, 64)};
  const Block body{"body", {op(0, {}, {0}), op(0, {0}, {}), op(0, {}, {1}), op(0, {1}, {})}};
  Role once = role_with(buffers, {body}, {{{0, 1, 0, 1}}});
  place(once);
  EXPECT_EQ(once.memory.arena.value, 64);
  Role loop = role_with(buffers, {body}, {{{0, 2, 0, 1}}});
  place(loop);
  EXPECT_EQ(loop.memory.arena.value, 128);
}

std::pair<std::int64_t, std::int64_t> interval(const Role& role, BufferId b) {
  for (const Interval& i : live_intervals(role, role.segments[0])) {
    if (i.buffer == b) {
      return {i.first, i.last};
    }
  }
  return {-1, -1};
}

// Compute ops at 0, 2, 4 hold the instants 1, 5, 9. The op at 1 (stream 1) follows op 0 and op 4 follows it: it may run
// anywhere from the gap after op 0 (instant 2) to the gap before op 4 (instant 8). The op at 3 (stream 1) comes behind
// it.
TEST(LiveIntervals, OpsOfOtherStreamsHoldFromGapToGap) {
  Role role =
      role_with({buffer("a", Lifetime::block, 64), buffer("b", Lifetime::block, 64), buffer("c", Lifetime::block, 64)},
                {{"block", {op(0, {}, {0}), op(1, {}, {1}, {0}), op(0, {0}, {}), op(1, {}, {2}), op(0, {}, {}, {1})}}},
                {{{0, 1, -1, 1}}});
  EXPECT_EQ(interval(role, 0), std::pair(std::int64_t{1}, std::int64_t{5}));
  EXPECT_EQ(interval(role, 1), std::pair(std::int64_t{2}, std::int64_t{8}));
  // c's op follows op 0 through its stream; nothing waits for it: to the end of the block (instant 10).
  EXPECT_EQ(interval(role, 2), std::pair(std::int64_t{2}, std::int64_t{10}));
}

// Nothing orders the ops of stream 1. A block buffer is held for its block (instants 2 to 4), a segment buffer for the
// segment (0 to 6).
TEST(LiveIntervals, AnOpNothingWaitsForHoldsToTheEnd) {
  Role role = role_with({buffer("a", Lifetime::block, 64), buffer("s", Lifetime::segment, 64)},
                        {{"side", {op(1, {}, {0, 1})}}, {"main", {op(0, {}, {})}}},
                        {{{1, 1, -1, 1}, {0, 1, -1, 1}, {1, 1, -1, 1}}});
  EXPECT_EQ(interval(role, 0), std::pair(std::int64_t{2}, std::int64_t{4}));
  EXPECT_EQ(interval(role, 1), std::pair(std::int64_t{0}, std::int64_t{6}));
}

TEST(LiveIntervals, CountGuardsAsReadsAndCallsOfNoIterationNot) {
  Role role = role_with({buffer("a", Lifetime::segment, 8), buffer("b", Lifetime::block, 8)},
                        {{"block", {op(0, {}, {0}), op(0, {}, {})}}, {"never", {op(0, {}, {1})}}},
                        {{{0, 1, -1, 1}, {1, 0, -1, 1}}});
  role.blocks[0].ops[1].guard = Guard{use(0)};
  EXPECT_EQ(interval(role, 0), std::pair(std::int64_t{1}, std::int64_t{3}));
  EXPECT_EQ(interval(role, 1), std::pair(std::int64_t{-1}, std::int64_t{-1}));
}

// --- Against brute force: expand a random segment, order its ops by streams and `after`, and demand that whoever
// shares bytes is completely ordered, one before the other.

struct Expanded {
  const Op* op;
  int iteration;  // number of the block call's iteration in the segment
};

// A block that begins with a compute op that all streams follow and ends with one that follows all.
Block random_block(std::mt19937& random, const std::vector<Buffer>& buffers) {
  Block b;
  b.ops.push_back(op(0, {}, {}));
  const std::size_t n = random() % 8;
  for (std::size_t i = 1; i <= n; ++i) {
    Op o = op(static_cast<StreamId>(random() % 3), {}, {});
    for (std::size_t k = random() % 4; k > 0; --k) {
      (random() % 2 == 0 ? o.reads : o.writes).push_back(use(static_cast<int>(random() % buffers.size())));
    }
    o.after.push_back(static_cast<std::uint16_t>(random() % i));
    o.after.push_back(0);
    b.ops.push_back(std::move(o));
  }
  Op end = op(0, {}, {});
  for (std::size_t i = 0; i < b.ops.size(); ++i) {
    end.after.push_back(static_cast<std::uint16_t>(i));
  }
  b.ops.push_back(std::move(end));
  return b;
}

std::vector<Expanded> expand(const Role& role, const Segment& s) {
  std::vector<Expanded> ops;
  int iteration = 0;
  for (const BlockCall& call : s.calls) {
    for (int k = 0; k < call.count; ++k, ++iteration) {
      for (const Op& o : role.blocks[static_cast<std::size_t>(call.block)].ops) {
        ops.push_back({&o, iteration});
      }
    }
  }
  return ops;
}

// before[i][j]: op i ends before op j starts.
std::vector<std::vector<bool>> happens_before(const std::vector<Expanded>& ops) {
  std::vector<std::vector<bool>> before(ops.size(), std::vector<bool>(ops.size(), false));
  std::map<StreamId, std::size_t> last;
  std::size_t block_begin = 0;
  for (std::size_t j = 0; j < ops.size(); ++j) {
    if (j > 0 && ops[j].iteration != ops[j - 1].iteration) {
      block_begin = j;
    }
    std::vector<std::size_t> predecessors;
    for (const std::uint16_t a : ops[j].op->after) {
      predecessors.push_back(block_begin + a);
    }
    if (last.count(ops[j].op->stream) > 0) {
      predecessors.push_back(last[ops[j].op->stream]);
    }
    last[ops[j].op->stream] = j;
    for (const std::size_t p : predecessors) {
      before[p][j] = true;
      for (std::size_t i = 0; i < p; ++i) {
        before[i][j] = before[i][j] || before[i][p];
      }
    }
  }
  return before;
}

TEST(Workspace, NoTwoLiveBuffersOverlap) {
  std::mt19937 random(4);
  std::int64_t shared = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<Buffer> buffers;
    for (std::size_t i = 2 + random() % 10; i > 0; --i) {
      buffers.push_back(buffer("b", random() % 3 == 0 ? Lifetime::segment : Lifetime::block, 1 + random() % 500,
                               static_cast<int>(random() % 3)));
    }
    std::vector<Block> blocks;
    for (int i = 0; i < 3; ++i) {
      blocks.push_back(random_block(random, buffers));
    }
    std::vector<std::vector<BlockCall>> segments(2);
    for (std::vector<BlockCall>& calls : segments) {
      for (std::size_t i = 1 + random() % 4; i > 0; --i) {
        calls.push_back({static_cast<BlockId>(random() % 3), static_cast<std::int32_t>(random() % 4), 0, 1});
      }
    }
    Role role = role_with(buffers, blocks, segments);
    place(role);
    std::int64_t sum = 0;
    for (const Buffer& b : buffers) {
      sum += align(footprint(b));
    }
    EXPECT_LE(role.memory.arena.value, sum);
    shared += sum - role.memory.arena.value;
    for (const Segment& s : role.segments) {
      const std::vector<Expanded> ops = expand(role, s);
      const auto before = happens_before(ops);
      // Uses of each buffer's content: per segment, or per iteration.
      std::map<std::pair<BufferId, int>, std::vector<std::size_t>> uses;
      for (std::size_t i = 0; i < ops.size(); ++i) {
        for (const std::vector<Operand>* operands : {&ops[i].op->reads, &ops[i].op->writes}) {
          for (const Operand& o : *operands) {
            const bool per_block = buffers[static_cast<std::size_t>(o.buffer)].lifetime == Lifetime::block;
            uses[{o.buffer, per_block ? ops[i].iteration : -1}].push_back(i);
          }
        }
      }
      const auto precedes = [&](const std::vector<std::size_t>& a, const std::vector<std::size_t>& b) {
        return std::all_of(a.begin(), a.end(), [&](std::size_t i) {
          return std::all_of(b.begin(), b.end(), [&](std::size_t j) { return before[i][j]; });
        });
      };
      for (const auto& [a, a_uses] : uses) {
        for (const auto& [b, b_uses] : uses) {
          const auto x = static_cast<std::size_t>(a.first), y = static_cast<std::size_t>(b.first);
          const std::int64_t a0 = role.memory.placements[x].offset, b0 = role.memory.placements[y].offset;
          if (x < y && a0 < b0 + footprint(buffers[y]) && b0 < a0 + footprint(buffers[x])) {
            ASSERT_TRUE(precedes(a_uses, b_uses) || precedes(b_uses, a_uses)) << "trial " << trial;
          }
        }
      }
    }
  }
  EXPECT_GT(shared, 0);
}

// --- The curve.

// Slot buffer x of 64 bytes, workspace 128 in F and 64 in B, 100 persistent bytes (128), 1 ring of 64.
// F0 F1 B0 F2 B1 B2 in slots 0 1 0 0 1 0: in use 1 2 2 2 2 1.
TEST(MemoryCurve, CountsSlotsFromTheirFirstWriteToTheirLastRead) {
  Role role = role_with(
      {buffer("w", Lifetime::persistent, 100), buffer("x", Lifetime::slot, 64), buffer("r", Lifetime::ring, 64),
       buffer("f", Lifetime::block, 128), buffer("b", Lifetime::block, 64)},
      {{"forward", {op(0, {}, {1}), op(0, {1}, {3})}}, {"backward", {op(0, {1}, {4})}}, {"update", {op(0, {0}, {0})}}},
      {{{0, 1, -1, 1}}, {{1, 1, -1, 1}}, {{2, 1, -1, 1}}});
  role.slots = 2;
  role.rings = 1;
  role.program.prologue = {{2, -1, -1, -1}};
  role.program.body = {{0, 0, 0, 0}, {0, 1, 1, 0}, {1, 0, 0, 0}, {0, 2, 0, 0}, {1, 1, 1, 0}, {1, 2, 0, 0}};
  role.program.epilogue = {{2, -1, -1, -1}};
  place(role);
  EXPECT_EQ(role.memory.arena.value, 128 + 2 * 64 + 64 + 128);
  const MemoryCurve curve = memory_curve(role);
  const std::vector<std::int64_t> expected{
      192, 192 + 64 + 128, 192 + 128 + 128, 192 + 128 + 64, 192 + 128 + 128, 192 + 128 + 64, 192 + 64 + 64, 192};
  ASSERT_EQ(curve.live.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(curve.live[i].value, expected[i]) << i;
  }
  EXPECT_EQ(curve.peak.value, 448);
  EXPECT_EQ(curve.peak, role.memory.arena);
}

// Slot buffer x of 64 bytes from F to I, hold buffer h of 128 from F to W. F0 F1 I0 W0 I1 W1 in slots 0 1 0 - 1 - and
// holds 0 1 0 0 1 1: slots in use 1 2 2 1 1 0, holds 1 2 2 2 1 1.
TEST(MemoryCurve, CountsHoldsUntilTheWeightGradient) {
  Role role = role_with({buffer("x", Lifetime::slot, 64), buffer("h", Lifetime::hold, 128)},
                        {{"forward", {op(0, {}, {0, 1})}}, {"input", {op(0, {0}, {})}}, {"weight", {op(0, {1}, {})}}},
                        {{{0, 1, -1, 1}}, {{1, 1, -1, 1}}, {{2, 1, -1, 1}}});
  role.slots = role.holds = 2;
  role.program.body = {{0, 0, 0, -1, 0},  {0, 1, 1, -1, 1}, {1, 0, 0, -1, 0},
                       {2, 0, -1, -1, 0}, {1, 1, 1, -1, 1}, {2, 1, -1, -1, 1}};
  place(role);
  EXPECT_EQ(role.memory.slots.value, 2 * 64);
  EXPECT_EQ(role.memory.holds.value, 2 * 128);
  const std::vector<std::int64_t> expected{64 + 128, 128 + 256, 128 + 256, 64 + 256, 64 + 128, 128};
  const MemoryCurve curve = memory_curve(role);
  ASSERT_EQ(curve.live.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(curve.live[i].value, expected[i]) << i;
  }
}

TEST(MemoryCurve, NeverExceedsTheArena) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<Buffer> buffers;
    for (std::size_t i = 1 + random() % 10; i > 0; --i) {
      buffers.push_back(buffer("b", static_cast<Lifetime>(random() % 6), random() % 300, static_cast<int>(random() % 4),
                               static_cast<BufferKind>(random() % kBufferKinds)));
    }
    Role role = role_with(buffers, {random_block(random, buffers), random_block(random, buffers)},
                          {{{0, 2, 0, 1}}, {{1, 1, 0, 1}, {0, 1, 0, 1}}});
    role.slots = 3;
    role.rings = 2;
    role.holds = 4;
    for (std::size_t i = random() % 10; i > 0; --i) {
      role.program.body.push_back({static_cast<SegmentId>(random() % 2), 0, static_cast<std::int32_t>(random() % 3), 0,
                                   static_cast<std::int32_t>(random() % 4)});
    }
    place(role);
    EXPECT_LE(memory_curve(role).peak, role.memory.arena);
    EXPECT_EQ(sum_of_kinds(role), role.memory.arena.value);
    const MemoryPlan& m = role.memory;
    EXPECT_EQ((m.persistent + m.slots + m.holds + m.rings + m.workspace), m.arena);
    for (const Placement& p : m.placements) {
      EXPECT_EQ(p.offset % kAlignment, 0);
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
