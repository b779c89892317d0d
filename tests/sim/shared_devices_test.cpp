// Timelines of ops that share a device, by hand. A byte of memory takes a picosecond; a collective moves half a byte of
// memory per byte of its bus, so that a compute op beside it has half of the bandwidth: half speed. A collective beside
// compute has half speed too.
#include "sim/shared_devices.h"

#include <gtest/gtest.h>

#include "tests/sim/tiny_graph.h"

namespace foretrain::sim {
namespace {

topologies::Cluster sharing_clockwork(int devices) {
  topologies::Cluster c = clockwork(devices);
  topologies::Profile p = *c.profile;
  p.has_sharing = true;
  p.sharing.memory_traffic = {{"all_reduce", {0.5, "test"}}, {"message", {0.5, "test"}}};
  p.sharing.communication_speed = {0.5, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

// Two data parallel ranks of one role; 100 bytes are summed in 100 ps.
plan::PlanGraph data_parallel() {
  plan::PlanGraph g = stages(1);
  g.mesh.extent = {1, 2, 1, 1};
  g.tags = {"sum", "other sum"};
  g.groups = {{"all", {{plan::Axis::dp, 0, {}}}, {}}};
  return g;
}

plan::Op sum(plan::StreamId stream, std::vector<std::uint16_t> after, std::int32_t tag = 0) {
  plan::Op op;
  op.work = plan::Collective{plan::CollectiveKind::all_reduce, 0, 100, Dtype::u8, plan::Reduction::sum, tag};
  op.stream = stream;
  op.after = std::move(after);
  return op;
}

Time end_with_time_folded(const plan::PlanGraph& g, const topologies::Cluster& c) {
  return end_of(g, c, {}, true);
}

// [0,10) compute. From 10 on both at half speed: the sum ends at 10 + 100/0.5 = 210, when 100 of the second op's 200
// are done; the rest takes 100: 310.
TEST(SharedDevices, ComputeOutlastsTheCollective) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), work(200)});
  EXPECT_EQ(end_with_time_folded(g, sharing_clockwork(2)), Time{310});
}

// The second op of 40 ends at 10 + 80 = 90; 40 of the sum are done, the other 60 take 60: 150.
TEST(SharedDevices, TheCollectiveOutlastsCompute) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), work(40)});
  EXPECT_EQ(end_with_time_folded(g, sharing_clockwork(2)), Time{150});
}

// What waits for the sum does not run beside it: 10 + 100 + 40.
TEST(SharedDevices, NothingIsSlowerOneAfterTheOther) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), work(40, plan::kCompute, {1})});
  EXPECT_EQ(end_with_time_folded(g, sharing_clockwork(2)), Time{150});
}

// Two ops of 40 beside the sum, then one that waits for it: [10,90) [90,170), 80 of the sum are done; it ends at 190,
// and the last op at 191.
TEST(SharedDevices, SeveralOpsBesideOneCollective) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), work(40), work(40), work(1, plan::kCompute, {1})});
  EXPECT_EQ(end_with_time_folded(g, sharing_clockwork(2)), Time{191});
}

// Two sums in a row on one stream beside an op of 300: each takes 200 beside it: [10,210) [210,410), the op has then
// done 200 of its 300: 510.
TEST(SharedDevices, OneCollectiveAfterTheOther) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), sum(1, {0}, 1), work(300)});
  EXPECT_EQ(end_with_time_folded(g, sharing_clockwork(2)), Time{510});
}

// On two streams at once they move as much memory as there is bandwidth; compute keeps half. Both end at 210, the op of
// 300 has done 100: 410.
TEST(SharedDevices, TwoCollectivesAtOnce) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), sum(2, {0}, 1), work(300)});
  EXPECT_EQ(end_with_time_folded(g, sharing_clockwork(2)), Time{410});
}

// Stages meet for a sum that one of them computes beside: stage 1 comes at 30; from then on both are slow on stage 0,
// whose op of 200 has done 20 by then and 100 more at 230, when the sum is over: 310. Stage 1 has nothing to do
// meanwhile. What meets another class and runs beside compute is for events to decide.
TEST(SharedDevices, ACollectiveIsAsSlowAsOnItsBusiestDevice) {
  plan::PlanGraph g = stages(2);
  g.tags = {"sum"};
  g.groups = {{"all", {{plan::Axis::pp, 0, {}}}, {}}};
  append(g.roles[0], {work(10), sum(1, {0}), work(200)});
  append(g.roles[1], {work(30), sum(1, {0})});
  EXPECT_EQ(end_of(g, sharing_clockwork(2), {}, false), Time{310});
}

// A message of 50 bytes from 10 on: at half speed on either side [10,110), when both ops of 100 have done 50: 160.
TEST(SharedDevices, MessagesShareWhereAFigureSaysSo) {
  plan::PlanGraph g = stages(2);
  g.tags = {"x"};
  append(g.roles[0], {work(10), message(true, 1, 0, 50, 2, {0}), work(100)});
  append(g.roles[1], {work(10), message(false, 0, 0, 50, 1, {0}), work(100)});
  EXPECT_EQ(end_of(g, sharing_clockwork(2), {}, false), Time{160});
}

// The host submits an op every 50 ps: at 50, 100, 150, 200. The first op waits for it [50,60), the second [100,300),
// the third is there when that is over [300,310), and so is the fourth [310,320).
TEST(SharedDevices, TheDeviceWaitsForItsHost) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(10), work(200), work(10), work(10)});
  topologies::Cluster c = clockwork(1);
  topologies::Profile p = *c.profile;
  p.sharing.submit = {50e-12, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  EXPECT_EQ(end_with_time_folded(g, c), Time{320});
  Options options;
  options.steps = 1;
  for (const bool fold : {false, true}) {
    options.fold_time = fold;
    const Simulation s = simulate(g, c, options);
    EXPECT_EQ(s.breakdown[0].compute, Time{230});
    EXPECT_EQ(s.breakdown[0].host, Time{90});  // [0,50) and [60,100)
    EXPECT_EQ(s.breakdown[0].bubble, Time{0});
  }
  // Always too late from the second step on: its ops come at 250, 300, 350 and 400.
  options.steps = 5;
  g.roles[0].blocks[0].ops[1].work = plan::Fill{20, Dtype::u8};
  const Simulation s = simulate(g, c, options);
  EXPECT_EQ(s.step_ends, (std::vector<Time>{Time{210}, Time{410}, Time{610}, Time{810}, Time{1010}}));
  EXPECT_EQ(s.breakdown[0].host, Time{150});
}

// Tables of rows cost the host 15 / 4.5 of an op, 167 ps, and it waits for them: they are submitted at 50 + 167 and end
// d later; the next op comes 50 after that, and the last, submitted while it runs, follows it at once.
TEST(SharedDevices, TheHostWaitsForTablesOfRows) {
  plan::Op tables = work(1);
  tables.work = plan::Route{plan::RouteStep::arrange, 8, 4, 2, 0};
  plan::PlanGraph alone = stages(1);
  append(alone.roles[0], {tables});
  topologies::Cluster c = clockwork(1);
  const Time d = end_with_time_folded(alone, c);
  topologies::Profile p = *c.profile;
  p.sharing.submit = {50e-12, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(10), tables, work(200), work(10)});
  EXPECT_EQ(end_with_time_folded(g, c), Time{217 + 50 + 200 + 10} + d);
  Options options;
  options.steps = 3;
  Simulation folded = simulate(g, c, options);
  options.fold_time = false;
  EXPECT_EQ(simulate(g, c, options).step_ends, folded.step_ends);
  std::get<plan::Route>(g.roles[0].blocks[0].ops[1].work).members = 1;  // nothing is exchanged: 267 and 317
  EXPECT_EQ(end_with_time_folded(g, c), Time{std::max<std::int64_t>(267, 217 + d.value) + 210});
}

// A pass that is submitted at 50, 100 and 150 and ends at 310, [50,60) [100,300) [300,310), holds the host until then:
// the next comes at 360 and 410 instead of 200 and 250. What belongs to no microbatch is not waited for.
TEST(SharedDevices, TheHostWaitsAtTheEndOfEachPass) {
  topologies::Cluster c = clockwork(1);
  topologies::Profile p = *c.profile;
  p.sharing.submit = {50e-12, "test"};
  const auto end = [&](bool waits, int chunk) {
    plan::PlanGraph g = stages(1);
    append(g.roles[0], {work(10), work(200), work(10)});
    append(g.roles[0], {work(10), work(10)});
    g.roles[0].segments[0].chunk = chunk;
    p.sharing.waits_each_pass = waits;
    c.profile = std::make_shared<const topologies::Profile>(p);
    return end_with_time_folded(g, c);
  };
  EXPECT_EQ(end(true, 0), Time{420});
  EXPECT_EQ(end(false, 0), Time{330});
  EXPECT_EQ(end(true, -1), Time{330});
}

// Sends are submitted like any op: at 100 on the one side, the receive at 50 on the other; a Join is no kernel.
TEST(SharedDevices, CommunicationIsSubmittedToo) {
  plan::PlanGraph g = stages(2);
  g.tags = {"x"};
  append(g.roles[0], {work(10), message(true, 1, 0, 7, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 7, 1), after_ops({0})});
  topologies::Cluster c = clockwork(2);
  topologies::Profile p = *c.profile;
  p.sharing.submit = {50e-12, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  EXPECT_EQ(end_with_time_folded(g, c), Time{107});
}

TEST(SharedDevices, CanBeSwitchedOff) {
  plan::PlanGraph g = data_parallel();
  append(g.roles[0], {work(10), sum(1, {0}), work(200)});
  Options options;
  options.steps = 1;
  options.share_devices = false;
  EXPECT_EQ(simulate(g, sharing_clockwork(2), options).step_ends[0], Time{210});
  topologies::Cluster core = sharing_clockwork(2);
  core.device.exclusive_streams = true;  // a CPU core takes turns: [0,10) [10,110) [110,310)
  options.share_devices = true;
  EXPECT_EQ(simulate(g, core, options).step_ends[0], Time{310});
}

}  // namespace
}  // namespace foretrain::sim
