// Ranks on several hosts. Links of 1514 GB/s carry 1448 bytes of data in a nanosecond; which is no number in binary and
// may be a picosecond more, rounded up.
#include <gtest/gtest.h>

#include "plan/build.h"
#include "sim/network.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

using plan::CollectiveKind;

constexpr std::int64_t kNanosecond = 1448;  // bytes

topologies::Cluster hosts(int count, int ranks_each, int cores) {
  topologies::Cluster c = clockwork(ranks_each, true);
  c.this_machine = true;
  c.nodes = count;
  c.cores_per_host = cores;
  c.inter.bandwidth = Bandwidth{1514e9};
  return c;
}

// 50 us and 1448 MB/s. Inside: an all_reduce of two ranks takes 3 us, any other collective 2 us, a message 1 us.
topologies::Cluster measured_hosts(int count) {
  topologies::Cluster c = hosts(count, 2, 2);
  c.inter = {Bandwidth{1514e6}, Time{50'000'000}};
  topologies::Profile p;
  p.measured.cores = 2;
  p.measured.collectives = {{"all_reduce", 2, 1'448'000, 3e-6}, {"all_gather", 2, 1'448'000, 2e-6}};
  p.measured.exchanges = {{1'448'000, 1e-6}};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

// A buffer of 1 ms. One rank on each host: 2 (H-1)/H of it and two latencies for an all_reduce, half of that for its
// halves; (H-1) times whole for a broadcast; 1/H to each other host for an all_to_all of one rank per host.
TEST(HostsNetwork, OneRankOnEachHost) {
  const Bytes whole{1'448'000};
  for (const int h : {2, 4, 8}) {
    const topologies::Cluster c = measured_hosts(h);
    const auto model = make_network_model("auto", c);
    const GroupPlacement group{h, h, 1};
    const auto time = [&](CollectiveKind kind) { return model->collective(kind, whole, group); };
    const double part = (h - 1.0) / h;
    EXPECT_NEAR(time(CollectiveKind::all_reduce), 100e-6 + 2 * part * 1e-3, 1e-12);
    EXPECT_NEAR(time(CollectiveKind::reduce_scatter), 50e-6 + part * 1e-3, 1e-12);
    EXPECT_NEAR(time(CollectiveKind::all_gather), 50e-6 + part * 1e-3, 1e-12);
    EXPECT_NEAR(time(CollectiveKind::broadcast), 50e-6 + (h - 1) * 1e-3, 1e-12);
    EXPECT_NEAR(time(CollectiveKind::gather), 50e-6 + 1e-3, 1e-12);  // all that the root ends with
    EXPECT_NEAR(time(CollectiveKind::distribute), 50e-6 + (h - 1) * 1e-3, 1e-12);
    EXPECT_NEAR(time(CollectiveKind::all_to_all), 50e-6 + part * 1e-3, 1e-12);
    EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{0}, group), 100e-6, 1e-12);
    EXPECT_NEAR(model->message(whole, false), 1.05e-3, 1e-12);
    EXPECT_NEAR(model->message(whole, true), 1e-6, 1e-15);
  }
}

// Two on each of two hosts: partial sums of half of the buffer go out, and results of the other half. Of an all_to_all
// each of the two sends half of its buffer to the other host. What is done inside hides behind the link, or the link
// behind it.
TEST(HostsNetwork, TwoRanksOnEachHost) {
  const topologies::Cluster c = measured_hosts(2);
  const auto model = make_network_model("auto", c);
  const Bytes whole{1'448'000};
  const GroupPlacement group{4, 2, 2};
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, whole, group), 100e-6 + 1e-3, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::all_gather, whole, group), 50e-6 + 0.5e-3, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::all_to_all, whole, group), 50e-6 + 1e-3, 1e-12);
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, whole, {2, 1, 2}), 3e-6, 1e-15);
  topologies::Cluster fast = c;  // a link of 1 us, while the two of a host take 3 us
  fast.inter.bandwidth = Bandwidth{1514e9};
  EXPECT_NEAR(make_network_model("auto", fast)->collective(CollectiveKind::all_reduce, whole, group), 100e-6 + 3e-6,
              1e-12);
}

// Three on one host and one on another, f = 3/4 and g = 1/4: of a reduce_scatter partial sums of 3/4 go to the three;
// an all_reduce sends 1/4 of partial sums and 3/4 of results from their host.
TEST(HostsNetwork, UnevenHosts) {
  const topologies::Cluster c = measured_hosts(2);
  const auto model = make_network_model("auto", c);
  const Bytes whole{1'448'000};
  const GroupPlacement group{4, 2, 3, 1};
  const auto wires = [&](CollectiveKind kind) { return model->traffic(kind, whole, group)->fabric_load; };
  EXPECT_NEAR(wires(CollectiveKind::all_reduce), 1e-3, 1e-12);
  EXPECT_NEAR(wires(CollectiveKind::reduce_scatter), 0.75e-3, 1e-12);
  EXPECT_NEAR(wires(CollectiveKind::all_gather), 0.75e-3, 1e-12);
  EXPECT_NEAR(wires(CollectiveKind::all_to_all), 0.75e-3, 1e-12);
}

plan::Op sum(std::int64_t bytes, plan::StreamId stream, std::int32_t tag, std::vector<std::uint16_t> after = {}) {
  plan::Op op;
  op.work = plan::Collective{CollectiveKind::all_reduce, 0, bytes, Dtype::u8, plan::Reduction::sum, tag};
  op.stream = stream;
  op.after = std::move(after);
  return op;
}

double ps_of(const plan::PlanGraph& g, const topologies::Cluster& c) {
  return static_cast<double>(end_of(g, c).value);
}

plan::Timeline one_step(const plan::PlanGraph& g, const topologies::Cluster& c) {
  Options o;
  o.steps = 1;
  return timeline(g, c, o);
}

plan::PlanGraph two_stages() {
  plan::PlanGraph g = stages(2);
  g.tags = {"a", "b"};
  g.groups = {{"all", {{plan::Axis::pp, 0, {}}}, {}}};
  return g;
}

// Over two hosts a buffer crosses once each way: [30,1030). The cores go on meanwhile.
TEST(Hosts, CoresComputeWhileTheWiresCarry) {
  plan::PlanGraph g = two_stages();
  append(g.roles[0], {work(10), sum(kNanosecond, 1, 0, {0}), work(40), work(1, plan::kCompute, {1})});
  append(g.roles[1], {work(30), sum(kNanosecond, 1, 0, {0}), work(5), work(1, plan::kCompute, {1})});
  EXPECT_NEAR(ps_of(g, hosts(2, 1, 2)), 1031, 1);
  const plan::Timeline t = one_step(g, hosts(2, 1, 2));
  for (const plan::Span& s : t.spans) {
    if (s.stream == 1) {
      EXPECT_EQ(s.start, Time{30});
      EXPECT_NEAR(static_cast<double>(s.end.value), 1030, 1);
    } else if (s.rank == 0 && s.op.position == 2) {
      EXPECT_EQ(s.start, Time{10});
    }
  }
}

// Of 1 ns and 2 ns at once: both at half of the link until the first is through at 2 ns; the other has 1 ns left.
TEST(Hosts, SumsAtOnceShareTheLink) {
  plan::PlanGraph g = two_stages();
  for (plan::Role& role : g.roles) {
    append(role, {sum(kNanosecond, 1, 0), sum(2 * kNanosecond, 2, 1), work(1, plan::kCompute, {0})});
  }
  const plan::Timeline t = one_step(g, hosts(2, 1, 2));
  EXPECT_NEAR(ps_of(g, hosts(2, 1, 2)), 3000, 1);
  for (const plan::Span& s : t.spans) {
    EXPECT_NEAR(static_cast<double>(s.end.value), s.stream == 1 ? 2000 : s.stream == 2 ? 3000 : 2001, 1);
  }
}

// A link carries as much one way as the other: messages that pass each other take no more than one. Two of one way
// share it.
TEST(Hosts, MessagesShareALinkOneWay) {
  for (const bool both_ways : {true, false}) {
    plan::PlanGraph g = two_stages();
    append(g.roles[0], {message(true, 1, 0, kNanosecond, 2), message(!both_ways, 1, 1, kNanosecond, 1)});
    append(g.roles[1], {message(false, 0, 0, kNanosecond, 1), message(both_ways, 0, 1, kNanosecond, 2)});
    EXPECT_NEAR(ps_of(g, hosts(2, 1, 2)), both_ways ? 1000 : 2000, 1);
  }
}

// Four ranks on two hosts sum 1 ns of data; the cores of none are needed. What they compute meanwhile takes 500 on two
// cores each, and twice that where the hosts are one machine of two cores.
TEST(Hosts, NamespacesShareTheCores) {
  plan::PlanGraph g = stages(1);
  g.mesh.extent = {1, 4, 1, 1};
  g.tags = {"a"};
  g.groups = {{"all", {{plan::Axis::dp, 0, {}}}, {}}};
  append(g.roles[0], {sum(kNanosecond, 1, 0), work(500), work(1, plan::kCompute, {0})});
  topologies::Cluster c = hosts(2, 2, 2);
  c.intra.bandwidth = Bandwidth{4e12};
  EXPECT_NEAR(ps_of(g, c), 1001, 1);
  c.hosts_share_cores = true;
  EXPECT_NEAR(ps_of(g, c), 1002, 4);  // every op is rounded up
  append(g.roles[0], {work(500)});
  EXPECT_NEAR(ps_of(g, c), 1002 + 1000, 6);
}

// Ranks by themselves and ranks by class take the same time, over two and four hosts.
TEST(Hosts, EveryStrategyFoldsAsRankByRank) {
  const std::vector<std::vector<std::string>> strategies{
      {"dp=4"},
      {"dp=4", "overlap_grad_reduce=true", "bucket_bytes=20 kB"},
      {"dp=4", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true", "bucket_bytes=20 kB"},
      {"dp=4", "zero=3"},
      {"tp=4", "sequence_parallel=true"},
      {"tp=2", "dp=2"},
      {"pp=4"},
      {"pp=2", "dp=2", "overlap_grad_reduce=true"},
      {"pp=2", "tp=2", "schedule=interleaved", "virtual_stages=2"},
      {"cp=4"},
      {"cp=2", "dp=2", "zero=2"}};
  for (const auto& overrides : strategies) {
    const plan::Job job = testing::tiny_job(testing::kTinyLlama, overrides);
    const plan::PlanGraph g = plan::build(job);
    for (const int count : {2, 4}) {
      topologies::Cluster c = hosts(count, 4 / count, 4);
      c.device.peak[Dtype::fp64] = FlopRate{1e12};
      topologies::Profile p = *c.profile;
      p.roofline.matmul[Dtype::fp64] = {1, "test"};
      c.profile = std::make_shared<const topologies::Profile>(std::move(p));
      c.inter.latency = Time{12345};
      SCOPED_TRACE(::testing::PrintToString(overrides) + " over " + std::to_string(count));
      EXPECT_GT(end_of(g, c).value, 0);
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
