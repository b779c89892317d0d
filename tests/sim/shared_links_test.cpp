// Timelines of meetings that share links, by hand. A byte takes a picosecond on an adapter, in either direction; there
// is no latency.
#include <gtest/gtest.h>

#include "base/error.h"
#include "sim/simulator.h"
#include "tests/sim/tiny_graph.h"
#include "topologies/fabric.h"

namespace foretrain::sim {
namespace {

topologies::Cluster networked(int nodes, int devices_per_node, topologies::Fabric fabric) {
  topologies::Cluster c = clockwork(devices_per_node);
  c.nodes = nodes;
  fabric.node.devices = devices_per_node;
  fabric.node.bandwidth = c.intra.bandwidth;
  fabric.node.adapter_bandwidth = c.inter.bandwidth;
  c.fabric = std::make_shared<const topologies::Fabric>(std::move(fabric));
  return c;
}

// One switch, one adapter per node.
topologies::Cluster one_switch(int nodes, int devices_per_node) {
  topologies::Fabric fabric;
  fabric.network = topologies::NonBlocking{};
  return networked(nodes, devices_per_node, fabric);
}

// `dp` ranks on each of the stages, dp innermost.
plan::PlanGraph grid(int pp, int dp) {
  plan::PlanGraph g = stages(pp);
  g.mesh.extent[static_cast<std::size_t>(plan::Axis::dp)] = dp;
  g.tags = {"x", "y", "sum"};
  g.groups = {{"replicas", {{plan::Axis::dp, 0, {}}}, {}}};
  return g;
}

plan::Op sum(std::int64_t bytes, plan::StreamId stream, std::vector<std::uint16_t> after = {}) {
  plan::Op op;
  op.work = plan::Collective{plan::CollectiveKind::all_reduce, 0, bytes, Dtype::u8, plan::Reduction::sum, 2};
  op.stream = stream;
  op.after = std::move(after);
  return op;
}

Time end_on(const plan::PlanGraph& g, const topologies::Cluster& c, const char* network = "fair_share") {
  Options options;
  options.network_model = network;
  return end_of(g, c, options);
}

// Both ranks of a node send to the other node through its one adapter: 2 x 100 bytes.
TEST(SharedLinks, TwoMessagesThroughOneAdapter) {
  plan::PlanGraph g = grid(2, 2);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  EXPECT_EQ(end_on(g, one_switch(2, 2)), Time{210});
  EXPECT_EQ(end_on(g, one_switch(2, 2), "alpha_beta"), Time{110});
}

// In one node there is a link for each.
TEST(SharedLinks, NoneInsideANode) {
  plan::PlanGraph g = grid(2, 2);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  EXPECT_EQ(end_on(g, one_switch(1, 4)), Time{110});
}

// Stages 0 and 2 send 100 bytes each to stage 1: from 10 on both; from 30 on the second one too, which then has the
// half: the first has 20 by then, 80 more at 190; the second 80 by then and 20 more alone: 210.
TEST(SharedLinks, Incast) {
  plan::PlanGraph g = grid(3, 1);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1), message(false, 2, 1, 100, 3)});
  append(g.roles[2], {work(30), message(true, 1, 1, 100, 4, {0})});
  EXPECT_EQ(end_on(g, one_switch(3, 1)), Time{210});
  EXPECT_EQ(end_on(g, one_switch(3, 1), "alpha_beta"), Time{130});
}

// A sum over two nodes sends 2 (2-1)/2 x 100 = 100 bytes either way, beside 300 of a message: half each until 210,
// then the message alone for 200 more.
TEST(SharedLinks, ACollectiveBesideAMessage) {
  plan::PlanGraph g = grid(2, 2);
  append(g.roles[0], {work(10), sum(100, 4, {0}), message(true, 1, 0, 300, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 300, 1)});
  EXPECT_EQ(end_on(g, one_switch(4, 1)), Time{410});
  EXPECT_EQ(end_on(g, one_switch(4, 1), "alpha_beta"), Time{310});
}

// Two sums over the same adapters, the second when compute has seen the first: 10 + 100 + 10 + 100, no flows.
TEST(SharedLinks, OneAfterTheOther) {
  plan::PlanGraph g = grid(1, 2);
  plan::Op second = sum(100, 3, {2});
  std::get<plan::Collective>(second.work).tag = 1;
  append(g.roles[0], {work(10), sum(100, 4, {0}), work(10, plan::kCompute, {1}), second, work(5, plan::kCompute, {3})});
  EXPECT_EQ(end_on(g, one_switch(2, 1)), Time{225});
}

// Four nodes below a leaf, two cables to the spine: four messages of 100 bytes need twice the time.
TEST(SharedLinks, AnOversubscribedLeaf) {
  topologies::Fabric fabric;
  topologies::FatTree tree;
  tree.radix = 6;
  tree.tiers = 2;
  tree.oversubscription = {2};
  fabric.network = tree;
  plan::PlanGraph g = grid(2, 4);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  EXPECT_EQ(end_on(g, networked(8, 1, fabric)), Time{210});
  tree.oversubscription = {1};
  fabric.network = tree;
  EXPECT_EQ(end_on(g, networked(8, 1, fabric)), Time{110});
}

// Somebody else sends a quarter of a byte per picosecond through the same adapter: 3/4 are left, 100 bytes in 134 ps
// (133.3, rounded up). More than the half of a full adapter it does not get.
TEST(SharedLinks, BackgroundTraffic) {
  plan::PlanGraph g = grid(2, 1);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  topologies::Cluster c = one_switch(3, 1);
  c.disturbance.background = {{0, 2, Bandwidth{0.25e12}}};
  EXPECT_EQ(end_on(g, c), Time{144});
  c.disturbance.background = {{2, 1, Bandwidth{5e12}}};
  EXPECT_EQ(end_on(g, c), Time{210});
  c.disturbance.background = {{1, 0, Bandwidth{5e12}}};  // the other way
  EXPECT_EQ(end_on(g, c), Time{110});
}

// In one direction; what goes another way is as fast as ever.
TEST(SharedLinks, ADegradedLink) {
  plan::PlanGraph g = grid(2, 1);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  topologies::Cluster c = one_switch(2, 1);
  c.disturbance.links = {{0, 1, "adapter up", 0.5}};
  EXPECT_EQ(end_on(g, c), Time{210});
  c.disturbance.links = {{0, 1, "adapter up", 0.5}, {0, 1, "adapter down", 0.25}, {0, 1, "adapter down", 0.5}};
  EXPECT_EQ(end_on(g, c), Time{810});
  c.disturbance.links = {{1, 0, "adapter up", 0.5}};
  EXPECT_EQ(end_on(g, c), Time{110});
}

// Also between switches of a fabric that never blocks otherwise.
TEST(SharedLinks, ADegradedLinkBetweenSwitches) {
  topologies::Fabric fabric;
  topologies::FatTree tree;
  tree.radix = 4;
  tree.tiers = 2;
  fabric.network = tree;
  plan::PlanGraph g = grid(2, 4);
  append(g.roles[0], {work(10), message(true, 1, 0, 100, 2, {0})});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  topologies::Cluster c = networked(8, 1, fabric);
  EXPECT_EQ(end_on(g, c), Time{110});
  c.disturbance.links = {{0, 4, "tier 1 to 2", 0.25}};  // of the four ranks of stage 0 two are below that leaf
  EXPECT_EQ(end_on(g, c), Time{410});
}

TEST(SharedLinks, WhatIsNotThere) {
  plan::PlanGraph g = grid(2, 1);
  append(g.roles[0], {message(true, 1, 0, 100, 2)});
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  topologies::Cluster c = one_switch(2, 1);
  c.name = "two";
  const auto refusal = [&](const char* network) -> std::string {
    Options options;
    options.network_model = network;
    try {
      simulate(g, c, options);
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  c.disturbance.links = {{0, 1, "adapter", 0.5}};
  EXPECT_EQ(refusal("auto"),
            "cluster.disturbance.links: two has no links \"adapter\"; expected one of: nvlink up, nvlink down, "
            "adapter up, adapter down");
  EXPECT_EQ(refusal("alpha_beta"),
            "cluster.disturbance: links and background are for network model fair_share; alpha_beta knows no links");
  c.disturbance.links = {{0, 1, "nvlink up", 0.5}};
  EXPECT_EQ(refusal("auto"), "cluster.disturbance.links: the way from device 0 to device 1 has no \"nvlink up\"");
}

// The sum takes half of the device's memory from compute beside it, and has 3/10 of its speed there: 0.3 bytes per
// picosecond, which leaves 0.7 to the message: 100 bytes end at 10 + 143 (142.9) = 153, and stage 1 computes
// [153,3153). The sum ends at 10 + 334 (333.3) = 344; compute of 600 has done 167 by then: 344 + 433 = 777.
TEST(SharedLinks, AFlowBesideCompute) {
  topologies::Cluster c = one_switch(4, 1);
  topologies::Profile p = *c.profile;
  p.has_sharing = true;
  p.sharing.memory_traffic = {{"all_reduce", {0.5, "test"}}};
  p.sharing.communication_speed = {0.3, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  plan::PlanGraph g = grid(2, 2);
  append(g.roles[0], {work(10), sum(100, 4, {0}), message(true, 1, 0, 100, 2, {0}), work(600)});
  plan::PlanGraph longer = g;
  append(g.roles[1], {message(false, 0, 0, 100, 1)});
  append(longer.roles[1], {message(false, 0, 0, 100, 1), work(3000, plan::kCompute, {0})});
  EXPECT_EQ(end_on(g, c), Time{777});
  EXPECT_EQ(end_on(longer, c), Time{3153});
}

}  // namespace
}  // namespace foretrain::sim
