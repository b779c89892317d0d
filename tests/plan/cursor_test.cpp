#include "plan/cursor.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace foretrain::plan {
namespace {

Block block(std::size_t ops) {
  Block b;
  b.ops.resize(ops);
  return b;
}

Segment segment(std::int32_t first_layer, std::vector<BlockCall> calls) {
  Segment s;
  s.first_layer = first_layer;
  s.calls = std::move(calls);
  return s;
}

// What a walk sees, one entry per op.
struct Seen {
  int instance, position, block, op, layer, microbatch, slot, ring, first_layer;
  bool starts_block, starts_instance;
  friend bool operator==(const Seen&, const Seen&) = default;
};

std::vector<Seen> walk(const Role& role, const std::vector<Instance>& instances, int first) {
  std::vector<Seen> seen;
  for (ProgramCursor c(role, 5, instances, first); c; c.next()) {
    const Binding& b = c.binding();
    EXPECT_EQ(c.id().role, 5);
    EXPECT_EQ(&c.op(),
              &role.blocks[static_cast<std::size_t>(c.block())].ops[static_cast<std::size_t>(c.op_in_block())]);
    seen.push_back({c.id().instance, c.id().position, c.block(), c.op_in_block(), b.layer, b.microbatch, b.slot, b.ring,
                    b.first_layer, c.starts_block(), c.starts_instance()});
  }
  return seen;
}

// Block 0 has two ops, block 1 none, block 2 one.
TEST(ProgramCursor, WalksIterationsAndSkipsWhatIsEmpty) {
  Role role;
  role.blocks = {block(2), block(0), block(1)};
  role.segments = {segment(4, {{1, 3, 0, 1}, {0, 2, 5, -1}, {0, 0, 5, 1}, {2, 1, -1, 1}, {1, 1, -1, 1}}),
                   segment(0, {}), segment(0, {{1, 2, 0, 1}})};
  const std::vector<Instance> body{{1, 0, 0, 0}, {0, 7, 1, 2}, {2, 0, 0, 0}, {0, 8, 0, 1}, {1, 9, 0, 0}};
  const std::vector<Seen> expected{
      {11, 0, 0, 0, 5, 7, 1, 2, 4, true, true},   {11, 1, 0, 1, 5, 7, 1, 2, 4, false, false},
      {11, 2, 0, 0, 4, 7, 1, 2, 4, true, false},  {11, 3, 0, 1, 4, 7, 1, 2, 4, false, false},
      {11, 4, 2, 0, -1, 7, 1, 2, 4, true, false}, {13, 0, 0, 0, 5, 8, 0, 1, 4, true, true},
      {13, 1, 0, 1, 5, 8, 0, 1, 4, false, false}, {13, 2, 0, 0, 4, 8, 0, 1, 4, true, false},
      {13, 3, 0, 1, 4, 8, 0, 1, 4, false, false}, {13, 4, 2, 0, -1, 8, 0, 1, 4, true, false}};
  EXPECT_EQ(walk(role, body, 10), expected);
  EXPECT_TRUE(walk(role, {}, 0).empty());
  EXPECT_TRUE(walk(role, {{1, 0, 0, 0}, {2, 0, 0, 0}}, 0).empty());
}

TEST(ProgramCursor, SeesWhatAnExpansionSees) {
  std::mt19937 random(1);
  const auto below = [&](std::uint32_t n) { return static_cast<int>(random() % n); };
  for (int trial = 0; trial < 200; ++trial) {
    Role role;
    for (int b = 0; b < 4; ++b) {
      role.blocks.push_back(block(static_cast<std::size_t>(below(4))));
    }
    for (int s = 0; s < 4; ++s) {
      role.segments.push_back(segment(below(10), {}));
      for (int c = below(5); c > 0; --c) {
        role.segments.back().calls.push_back({static_cast<BlockId>(below(4)), below(4), below(3) - 1, below(5) - 2});
      }
    }
    std::vector<Instance> instances;
    for (int i = below(6); i > 0; --i) {
      instances.push_back({static_cast<SegmentId>(below(4)), below(8), below(3), below(2)});
    }
    std::vector<Seen> expected;
    for (std::size_t i = 0; i < instances.size(); ++i) {
      const Instance& in = instances[i];
      const Segment& s = role.segments[static_cast<std::size_t>(in.segment)];
      int position = 0;
      for (const BlockCall& call : s.calls) {
        for (int k = 0; k < call.count; ++k) {
          const int layer = call.first < 0 ? -1 : call.first + k * call.step;
          for (int op = 0; op < static_cast<int>(role.blocks[static_cast<std::size_t>(call.block)].ops.size()); ++op) {
            expected.push_back({static_cast<int>(i) + 3, position, call.block, op, layer, in.microbatch, in.slot,
                                in.ring, s.first_layer, op == 0, position == 0});
            ++position;
          }
        }
      }
    }
    EXPECT_EQ(walk(role, instances, 3), expected);
  }
}

// Copies: a has 1, b one per slot (3), c one per layer (4), d one per ring (2): they start at 0, 1, 4, 8; ten in all.
TEST(EventCopy, IsAnIndexInOneDenseTable) {
  Role role;
  role.name = "stage 0";
  role.slots = 3;
  role.rings = 2;
  role.global_layer = {0, 1, 2, 3};
  role.events = {
      {"a", Replicas::once}, {"b", Replicas::per_slot}, {"c", Replicas::per_layer}, {"d", Replicas::per_ring}};
  EXPECT_EQ(event_copies(role), 10);
  Binding b;
  b.slot = 2;
  b.layer = 3;
  b.ring = 1;
  EXPECT_EQ(event_copy(role, 0, b), 0);
  EXPECT_EQ(event_copy(role, 1, b), 3);
  EXPECT_EQ(event_copy(role, 2, b), 7);
  EXPECT_EQ(event_copy(role, 3, b), 9);
  EXPECT_EQ(event_copy(role, 0, Binding{}), 0);
  EXPECT_THROW(event_copy(role, 1, Binding{}), InternalError);
  EXPECT_EQ(event_copies(Role{}), 0);
}

class OperandOffset : public ::testing::Test {
 protected:
  OperandOffset() {
    graph.mesh.extent = {1, 1, 1, 4};
    graph.groups = {{"tp", {{Axis::tp, 0, {}}}, {}}};
    role.name = "stage 0";
    role.slots = 3;
    role.rings = 2;
    role.buffers = {{"weights", Dtype::bf16, 100, BufferKind::parameter, Lifetime::persistent, 8},
                    {"x", Dtype::fp32, 10, BufferKind::activation, Lifetime::slot, 5},
                    {"dx", Dtype::fp32, 10, BufferKind::communication, Lifetime::ring, 0},
                    {"scratch", Dtype::fp64, 10, BufferKind::workspace, Lifetime::block, 0}};
    role.memory.placements = {{1000, 200, 0}, {5000, 64, 320}, {7000, 0, 64}, {9000, 0, 0}};
    binding.slot = 2;
    binding.ring = 1;
    binding.layer = 6;
    binding.first_layer = 4;
  }
  std::int64_t offset(const Operand& o, Rank rank = 0) { return operand_offset(graph, role, o, binding, rank); }
  PlanGraph graph;
  Role role;
  Binding binding;
};

TEST_F(OperandOffset, CountsLayersOfPersistentBuffersFromTheRolesFirst) {
  EXPECT_EQ(offset({0, 0, kNoGroup, 0, 100, 0}), 1000 + 6 * 200);
  EXPECT_EQ(offset({0, 1, kNoGroup, 30, 10, 0}), 1000 + 7 * 200 + 30 * 2);
  binding.layer = -1;  // a block without a layer counts from the chunk's first
  EXPECT_EQ(offset({0, 0, kNoGroup, 0, 100, 0}), 1000 + 4 * 200);
}

TEST_F(OperandOffset, CountsLayersOfSlotBuffersFromTheChunksFirst) {
  EXPECT_EQ(offset({1, 0, kNoGroup, 0, 10, 0}), 5000 + 2 * 320 + 2 * 64);
  EXPECT_EQ(offset({1, -2, kNoGroup, 5, 5, 0}), 5000 + 2 * 320 + 5 * 4);
  binding.layer = -1;
  EXPECT_EQ(offset({1, 4, kNoGroup, 0, 10, 0}), 5000 + 2 * 320 + 4 * 64);
}

TEST_F(OperandOffset, TakesTheRingsCopyAndNoCopyForWorkspace) {
  EXPECT_EQ(offset({2, 0, kNoGroup, 3, 1, 0}), 7000 + 64 + 3 * 4);
  EXPECT_EQ(offset({3, 0, kNoGroup, 3, 1, 0}), 9000 + 3 * 8);
}

TEST_F(OperandOffset, MovesOnByTheRanksShareOfItsGroup) {
  EXPECT_EQ(offset({3, 0, 0, 1, 2, 2}, 0), 9000 + 1 * 8);
  EXPECT_EQ(offset({3, 0, 0, 1, 2, 2}, 3), 9000 + (1 + 3 * 2) * 8);
}

TEST_F(OperandOffset, RefusesLayersAndCopiesThatDoNotExist) {
  EXPECT_THROW(offset({0, 2, kNoGroup, 0, 1, 0}), InternalError);
  EXPECT_THROW(offset({1, -3, kNoGroup, 0, 1, 0}), InternalError);
  binding.slot = -1;
  EXPECT_THROW(offset({1, 0, kNoGroup, 0, 1, 0}), InternalError);
  binding.ring = 2;
  EXPECT_THROW(offset({2, 0, kNoGroup, 0, 1, 0}), InternalError);
}

TEST(MatchKeyOf, HoldsTheGlobalLayer) {
  Role role;
  role.global_layer = {8, 9, 24, 25};
  Binding b;
  b.layer = 2;
  b.microbatch = 3;
  EXPECT_EQ(match_key(role, 5, b), (MatchKey{5, 24, 3}));
  EXPECT_EQ(match_key(role, 5, Binding{}), (MatchKey{5, -1, -1}));
}

}  // namespace
}  // namespace foretrain::plan
