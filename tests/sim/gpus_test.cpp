// Timelines of ranks on GPUs of this machine, by hand: what the tables of a calibrated GPU say.
#include <gtest/gtest.h>

#include "tests/sim/tiny_graph.h"

namespace foretrain::sim {
namespace {

// A byte takes a picosecond; a sum of 100 bytes 100 ps among ranks on one GPU, 60 among ranks with one each.
topologies::Cluster gpus(int devices, double submit = 0, double event = 0) {
  topologies::Cluster c = clockwork(devices);
  c.this_machine = c.is_gpu = true;
  topologies::Profile p;
  p.measured.cores = 1;
  p.measured.memory = {{"fill", Dtype::u8, 10, 10e-12}, {"fill", Dtype::u8, 1000, 1000e-12}};
  p.measured.collectives = {{"all_reduce", 2, 100, 100e-12}, {"all_reduce", 2, 100, 60e-12, true}};
  p.measured.overlap = {{"memory", 2, 1.5}};
  p.measured.submit_seconds = submit;
  p.measured.event_seconds = event;
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

plan::PlanGraph two_ranks(std::vector<plan::Op> ops) {
  plan::PlanGraph g = stages(1);
  g.mesh.extent = {1, 2, 1, 1};
  g.tags = {"sum"};
  g.groups = {{"all", {{plan::Axis::dp, 0, {}}}, {}}};
  append(g.roles[0], std::move(ops));
  return g;
}

plan::Op sum(std::vector<std::uint16_t> after) {
  plan::Op op;
  op.work = plan::Collective{plan::CollectiveKind::all_reduce, 0, 100, Dtype::u8, plan::Reduction::sum, 0};
  op.stream = 1;
  op.after = std::move(after);
  return op;
}

// Submitted at 50: [50,60). The next one waits for another stream: 50 + 50 + 20 = 120, [120,130).
TEST(Gpus, TheHostSubmitsEachOp) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(10), work(10, 1, {0})});
  EXPECT_EQ(end_of(g, gpus(1, 50e-12, 20e-12), {}, false), Time{130});
}

// Two ranks with 100 ps of work each: 200 on one GPU that has one kernel at a time, 100 on two.
TEST(Gpus, RanksShareOneOrHaveOneEach) {
  const plan::PlanGraph g = two_ranks({work(100)});
  EXPECT_EQ(end_of(g, gpus(1), {}, false), Time{200});
  EXPECT_EQ(end_of(g, gpus(2), {}, false), Time{100});
}

// With one each: the sum of 60 from 10 on, 1.5 times slower beside compute: [10,100). The op of 100 runs at half speed
// that long and has 55 left: 155.
TEST(Gpus, ComputeBesideCommunication) {
  EXPECT_EQ(end_of(two_ranks({work(10), sum({0}), work(100)}), gpus(2), {}, false), Time{155});
}

}  // namespace
}  // namespace foretrain::sim
