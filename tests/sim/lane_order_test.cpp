// Which collectives of two streams can be under way at once, by hand.
#include "sim/lane_order.h"

#include <gtest/gtest.h>

#include "tests/sim/tiny_graph.h"

namespace foretrain::sim {
namespace {

using Order = std::vector<std::vector<bool>>;

constexpr plan::StreamId kFirst = 3, kSecond = 4;

plan::Op sum(plan::StreamId stream, std::vector<std::uint16_t> after = {}) {
  plan::Op op;
  op.work = plan::Collective{plan::CollectiveKind::all_reduce, 0, 100, Dtype::u8, plan::Reduction::sum, 0};
  op.stream = stream;
  op.after = std::move(after);
  return op;
}

// Two ranks that do the same, block by block; all but the last so many times. So many groups are alike.
Order order_of(const std::vector<std::vector<plan::Op>>& blocks, int times = 1, std::size_t groups = 1) {
  plan::PlanGraph g = stages(1);
  g.mesh.extent[static_cast<std::size_t>(plan::Axis::dp)] = 2;
  g.tags = {"sum"};
  g.groups.assign(groups, {"replicas", {{plan::Axis::dp, 0, {}}}, {}});
  g.roles[0].events = {{"first done"}, {"second done"}};
  for (const std::vector<plan::Op>& ops : blocks) {
    append(g.roles[0], ops);
  }
  std::vector<plan::Instance>& body = g.roles[0].program.body;
  const std::vector<plan::Instance> repeated(body.begin(), body.end() - 1);
  for (int i = 1; i < times; ++i) {
    body.insert(body.begin(), repeated.begin(), repeated.end());
  }
  const topologies::Cluster c = clockwork(2);
  return lanes_in_order(model_roles(g, c, *make_compute_model("roofline", c), *make_network_model("fair_share", c))[0]);
}

const Order kInOrder = {{true, true}, {true, true}};
const Order kMayOverlap = {{true, false}, {false, true}};

// Compute waits for each before it goes on, also into the next step.
TEST(LaneOrder, ComputeBetween) {
  EXPECT_EQ(order_of({{work(1), sum(kFirst, {0}), work(1, plan::kCompute, {1})},
                      {work(1), sum(kSecond, {0}), work(1, plan::kCompute, {1})}}),
            kInOrder);
}

// One waits for the other: from step to step it must be both ways.
TEST(LaneOrder, OneWaitsForTheOther) {
  EXPECT_EQ(order_of({{sum(kFirst), sum(kSecond, {0})}}), kMayOverlap);
  EXPECT_EQ(order_of({{sum(kFirst), sum(kSecond, {0}), sum(kFirst, {1})}}), kInOrder);
  plan::Op first = sum(kFirst), second = sum(kSecond, {0});
  first.waits = {1};
  second.records = {1};
  EXPECT_EQ(order_of({{first, second}}), kInOrder);
}

// Nothing waits for the second but the next of its stream.
TEST(LaneOrder, NobodyWaits) {
  EXPECT_EQ(order_of({{work(1), sum(kFirst, {0}), work(1, plan::kCompute, {1})}, {work(1), sum(kSecond, {0})}}),
            kMayOverlap);
  EXPECT_EQ(order_of({{work(1), sum(kFirst, {0}), sum(kSecond, {0}), work(1, plan::kCompute, {1, 2})}}), kMayOverlap);
}

// What repeats is looked at once; what only the last of many does counts all the same.
TEST(LaneOrder, ManyInstances) {
  const std::vector<plan::Op> first = {work(1), sum(kFirst, {0}), work(1, plan::kCompute, {1})},
                              second = {work(1), sum(kSecond, {0}), work(1, plan::kCompute, {1})};
  EXPECT_EQ(order_of({first, second, first}, 40), kInOrder);
  EXPECT_EQ(order_of({second, first, {work(1), sum(kFirst, {0})}}, 40), kMayOverlap);
}

// An event orders what lies in different blocks, through ops in between too.
TEST(LaneOrder, Events) {
  plan::Op first = sum(kFirst), second = sum(kSecond), waiting = work(1);
  first.records = {0};
  waiting.waits = {0};
  second.records = {1};
  second.after = {0};
  plan::Op again = work(1);
  again.waits = {1};
  EXPECT_EQ(order_of({{work(1)}, {work(1), first}, {waiting, second}}), kMayOverlap);
  first.after = {0};
  EXPECT_EQ(order_of({{again, first}, {waiting, second}}), kInOrder);
}

TEST(LaneOrder, OneLaneOrNone) {
  EXPECT_EQ(order_of({{work(1)}}), Order{});
  EXPECT_EQ(order_of({{sum(kFirst), sum(kFirst)}}), Order{{true}});
}

// Of forty lanes the last is on a stream of its own, and nothing waits for it; compute waits for the others.
TEST(LaneOrder, ManyLanes) {
  constexpr std::size_t kLanes = 40;
  std::vector<plan::Op> ops = {work(1)};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    ops.push_back(sum(lane + 1 < kLanes ? kFirst : kSecond, {0}));
    std::get<plan::Collective>(ops.back().work).group = static_cast<plan::GroupId>(lane);
  }
  ops.push_back(work(1, plan::kCompute, {kLanes - 1}));
  const Order order = order_of({ops}, 1, kLanes);
  ASSERT_EQ(order.size(), kLanes);
  for (std::size_t a = 0; a < kLanes; ++a) {
    for (std::size_t b = 0; b < kLanes; ++b) {
      EXPECT_EQ(order[a][b], a == b || (a + 1 < kLanes && b + 1 < kLanes)) << a << " " << b;
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
