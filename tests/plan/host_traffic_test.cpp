// Bytes between hosts, counted by hand: three members on host 0, the fourth on host 1.
#include "plan/host_traffic.h"

#include <gtest/gtest.h>

namespace foretrain::plan {
namespace {

const std::vector<int> kHosts = {0, 0, 0, 1};

// One role of four ranks along dp, whose step is one op, in every `every`-th.
PlanGraph one_op(Work work, std::int32_t every = 1) {
  PlanGraph g;
  g.mesh.extent[static_cast<std::size_t>(Axis::dp)] = 4;
  g.groups.push_back({"all", {{Axis::dp}}, {}});
  Role role;
  Op op;
  op.work = std::move(work);
  role.blocks.push_back({"block", {op}});
  Segment segment;
  segment.calls.push_back({0});
  role.segments.push_back(segment);
  Instance instance;
  instance.segment = 0;
  instance.every = every;
  role.program.body.push_back(instance);
  g.roles.push_back(role);
  return g;
}

std::vector<std::int64_t> sent(Work work) {
  return host_traffic(one_op(std::move(work)), kHosts, 0, 1).bytes;
}

// 48 numbers of fp32.
Collective of_48(CollectiveKind kind, std::int32_t root = -1) {
  Collective c;
  c.kind = kind;
  c.group = 0;
  c.elements = 48;
  c.root = root;
  return c;
}

using Bytes4 = std::vector<std::int64_t>;  // from 0 to 0 and 1, from 1 to 0 and 1

// 192 bytes are three cache lines: of four parts the last is empty. Host 1 sends its values of each line to the owner
// on host 0, and gets the sum.
TEST(HostTraffic, AllReduce) {
  EXPECT_EQ(sent(of_48(CollectiveKind::all_reduce)), (Bytes4{0, 192, 192, 0}));
}

// Quarters of 48 bytes: three are owned on host 0, one on host 1. A host's sum is sent once, not each member's values.
TEST(HostTraffic, HalvesOfAnAllReduce) {
  EXPECT_EQ(sent(of_48(CollectiveKind::reduce_scatter)), (Bytes4{0, 48, 144, 0}));
  EXPECT_EQ(sent(of_48(CollectiveKind::all_gather)), (Bytes4{0, 144, 48, 0}));
}

TEST(HostTraffic, BroadcastReachesAHostOnce) {
  EXPECT_EQ(sent(of_48(CollectiveKind::broadcast, 3)), (Bytes4{0, 0, 192, 0}));
  EXPECT_EQ(sent(of_48(CollectiveKind::broadcast, 0)), (Bytes4{0, 192, 0, 0}));
}

// From each of three members a block of 48 bytes to the fourth, and back.
TEST(HostTraffic, AllToAll) {
  EXPECT_EQ(sent(of_48(CollectiveKind::all_to_all)), (Bytes4{0, 144, 144, 0}));
}

// A third of 48 numbers from each of the others; all of them to each.
TEST(HostTraffic, Stars) {
  EXPECT_EQ(sent(of_48(CollectiveKind::gather, 3)), (Bytes4{0, 192, 0, 0}));
  EXPECT_EQ(sent(of_48(CollectiveKind::gather, 0)), (Bytes4{0, 0, 64, 0}));
  EXPECT_EQ(sent(of_48(CollectiveKind::distribute, 3)), (Bytes4{0, 0, 576, 0}));
  EXPECT_EQ(sent(of_48(CollectiveKind::distribute, 0)), (Bytes4{0, 192, 0, 0}));
}

// Round a ring ten numbers of fp64 leave and enter each host.
TEST(HostTraffic, Messages) {
  Message on{true, Axis::dp, 1, 10, Dtype::fp64, 0, true}, from = on;
  from.send = false;
  from.peer = -1;
  EXPECT_EQ(sent(Exchange{{on, from}}), (Bytes4{0, 80, 80, 0}));
}

// Of steps 3 to 6 every second is 3 and 5.
TEST(HostTraffic, StepsThatDoNotAll) {
  const PlanGraph g = one_op(of_48(CollectiveKind::broadcast, 3), 2);
  EXPECT_EQ(host_traffic(g, kHosts, 3, 4).total(), 2 * 192);
  EXPECT_EQ(host_traffic(g, kHosts, 0, 1).total(), 0);
  EXPECT_EQ(host_traffic(g, kHosts, 0, 0).total(), 0);
}

// Before step 0 the prologue, behind the last step of every call the epilogue.
TEST(HostTraffic, ThePrologueIsBeforeStepZero) {
  PlanGraph g = one_op(of_48(CollectiveKind::broadcast, 3));
  Program& program = g.roles[0].program;
  program.prologue = program.epilogue = program.body;
  EXPECT_EQ(host_traffic(g, kHosts, 0, 5).total(), 7 * 192);
  EXPECT_EQ(host_traffic(g, kHosts, 5, 5).total(), 6 * 192);
}

TEST(HostTraffic, OneHostSendsNothing) {
  EXPECT_EQ(host_traffic(one_op(of_48(CollectiveKind::all_reduce)), {0, 0, 0, 0}, 0, 5).bytes,
            (std::vector<std::int64_t>{0}));
}

}  // namespace
}  // namespace foretrain::plan
