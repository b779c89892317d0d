#include "search/chakra_replay.h"

#include <gtest/gtest.h>

#include "base/catalogue.h"
#include "base/error.h"
#include "plan/build.h"
#include "plan/job.h"
#include "sim/simulator.h"
#include "topologies/profile.h"

namespace foretrain::search {
namespace {

using plan::ChakraCollective;
using plan::ChakraNode;
using plan::ChakraType;

constexpr std::int64_t kMicrosecond = 1'000'000;

// Microseconds are no binary fractions: each communication may be rounded up by a picosecond.
void expect_us(Time measured, std::int64_t us, std::int64_t communications) {
  EXPECT_GE(measured.value, us * kMicrosecond);
  EXPECT_LE(measured.value, us * kMicrosecond + communications);
}

// Two nodes of two devices; 1 TFLOP/s, 1 TB/s; 100 GB/s and 1 us inside a node, 10 GB/s and 10 us between; no profile.
topologies::Cluster cluster() {
  topologies::Cluster c;
  c.name = "four";
  c.nodes = 2;
  c.devices_per_node = 2;
  c.device.name = "plain";
  c.device.peak[Dtype::bf16] = {1e12};
  c.device.memory_bandwidth = {1e12};
  c.intra = {{100e9}, {kMicrosecond}};
  c.inter = {{10e9}, {10 * kMicrosecond}};
  return c;
}

ChakraNode compute(std::uint64_t id, std::uint64_t us, std::vector<std::uint64_t> after = {}) {
  ChakraNode n;
  n.id = id;
  n.name = "compute";
  n.type = ChakraType::compute;
  n.duration_us = us;
  n.data_deps = std::move(after);
  return n;
}

ChakraNode collective(std::uint64_t id, ChakraCollective kind, std::int64_t bytes, std::string group,
                      std::vector<std::uint64_t> after = {}) {
  ChakraNode n;
  n.id = id;
  n.name = "collective";
  n.type = ChakraType::collective;
  n.comm_type = static_cast<std::int64_t>(kind);
  n.comm_size = bytes;
  n.group = std::move(group);
  n.data_deps = std::move(after);
  return n;
}

ChakraNode message(std::uint64_t id, int from, int to, bool send, std::int64_t bytes,
                   std::vector<std::uint64_t> after = {}) {
  ChakraNode n;
  n.id = id;
  n.name = "message";
  n.type = send ? ChakraType::send : ChakraType::recv;
  n.comm_src = from;
  n.comm_dst = to;
  n.comm_size = bytes;
  n.data_deps = std::move(after);
  return n;
}

ChakraTraces traces_of(std::vector<std::vector<ChakraNode>> nodes) {
  ChakraTraces t;
  for (std::size_t r = 0; r < nodes.size(); ++r) {
    t.origins.push_back("job." + std::to_string(r) + ".et");
  }
  t.nodes = std::move(nodes);
  return t;
}

std::string refusal(const ChakraTraces& t, const topologies::Cluster& c) {
  try {
    replay(t, c, Dtype::bf16);
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

// Rank 1 comes to the message after 50 us; 1 MB over 100 GB/s is 10 us, and the hop 1 us: 61. Rank 0 computes 30 us
// after its 5 us and 20 more behind the message: 61 + 20.
TEST(ChakraReplay, AMessageBeginsWhenBothHaveCome) {
  const ChakraReplay r = replay(
      traces_of({{compute(0, 5), message(1, 1, 0, false, 1'000'000, {0}), compute(2, 30, {0}), compute(3, 20, {1})},
                 {compute(7, 50), message(9, 1, 0, true, 1'000'000, {7})}}),
      cluster(), Dtype::bf16);
  expect_us(r.step, 81, 1);
  EXPECT_EQ(r.last, 0);
  EXPECT_EQ(r.compute, Time{55 * kMicrosecond});
  expect_us(r.network, 11, 1);
  expect_us(r.exposed, 11, 1);
  EXPECT_EQ(r.recorded, Time{});
}

// A ring all-gather of 2 x 1 MB between neighbours: one hop of 1 us, and 1 MB at 100 GB/s, 10 us. The second begins
// when the first is over: 22 us; a device computes one node at a time, the lower id first, beside them: 40 us.
TEST(ChakraReplay, GroupsAndDevicesTakeTurns) {
  std::vector<std::vector<ChakraNode>> nodes(4);
  for (auto& rank : nodes) {
    rank = {compute(0, 15), compute(1, 25)};
  }
  for (const std::size_t r : {0, 1}) {
    nodes[r].push_back(collective(2, ChakraCollective::all_gather, 1'000'000, "1"));
    nodes[r].push_back(collective(3, ChakraCollective::all_gather, 1'000'000, "1"));
    nodes[r].push_back(compute(4, 1, {2, 3, 0, 1}));
  }
  ChakraTraces t = traces_of(std::move(nodes));
  t.groups["1"] = {0, 1};
  const ChakraReplay r = replay(t, cluster(), Dtype::bf16);
  EXPECT_EQ(r.step, Time{41 * kMicrosecond});
  expect_us(r.network, 22, 2);
  EXPECT_EQ(r.exposed, Time{});
  EXPECT_EQ(r.nodes, 14);
}

// 2e6 FLOPs are 2 us, 5e6 bytes 5 us: the more of both.
TEST(ChakraReplay, PricesWorkWithoutADuration) {
  ChakraNode n = compute(0, 0);
  n.num_ops = 2'000'000;
  n.tensor_size = 5'000'000;
  const ChakraReplay r = replay(traces_of({{n}}), cluster(), Dtype::bf16);
  EXPECT_EQ(r.step, Time{5 * kMicrosecond});
  EXPECT_EQ(r.without_duration, 1);
  EXPECT_EQ(r.assumed.size(), 1u);
  EXPECT_THROW(replay(traces_of({{n}}), cluster(), Dtype::fp8), InputError);
}

// As recorded, the collective takes what its last member's trace says, 3 us, for the other's holds its wait.
TEST(ChakraReplay, TakesRecordedCommunicationToo) {
  ChakraNode early = collective(1, ChakraCollective::all_reduce, 8, "", {0}), late = early;
  early.duration_us = 43;
  late.duration_us = 3;
  const ChakraReplay r = replay(traces_of({{compute(0, 10), early}, {compute(0, 50), late}}), cluster(), Dtype::bf16);
  EXPECT_EQ(r.recorded, Time{53 * kMicrosecond});
}

TEST(ChakraReplay, NamesWhatCannotBe) {
  const ChakraNode gather = collective(1, ChakraCollective::all_gather, 8, "");
  EXPECT_EQ(refusal(traces_of({{gather}, {}}), cluster()),
            "job.0.et: node 1 \"collective\", number 1 of group : 1 of 2 ranks have it");
  EXPECT_EQ(refusal(traces_of({{gather}, {collective(4, ChakraCollective::all_gather, 16, "")}}), cluster()),
            "job.1.et: node 4 \"collective\", number 1 of group , is another than node 1 of job.0.et");
  EXPECT_NE(refusal(traces_of({{message(1, 1, 0, true, 8)}, {}}), cluster()).find("a message from 1 to 0"),
            std::string::npos);
  EXPECT_EQ(refusal(traces_of({{compute(1, 5, {9})}}), cluster()), "job.0.et: node 1 depends on 9, which is not there");
  EXPECT_EQ(refusal(traces_of({{compute(1, 5), compute(1, 5)}}), cluster()), "job.0.et: two nodes have the id 1");
  EXPECT_EQ(refusal(traces_of({{compute(1, 5, {2}), compute(2, 5, {1})}}), cluster()),
            "job.0.et: nodes depend on each other in a circle");
  EXPECT_NE(refusal(traces_of({{}, {}, {}, {}, {}}), cluster()).find("nodes=N of at least 3"), std::string::npos);
  // 0 sends before it receives, and so does 1: neither send is met.
  EXPECT_NE(refusal(traces_of({{message(1, 0, 1, true, 8), message(2, 1, 0, false, 8, {1})},
                               {message(1, 1, 0, true, 8), message(2, 0, 1, false, 8, {1})}}),
                    cluster())
                .find("waits for ranks that wait for others"),
            std::string::npos);
}

// What simulate() says of each op, written as traces and read again: the step is the forecast's within one part in a
// thousand, though the traces know nothing of links that are shared.
TEST(ChakraReplay, AnExportedStepTakesAsLong) {
  struct Sink : plan::SpanSink {
    std::map<plan::OpId, Time> took;
    void span(const plan::Span& s) override {
      if (s.step == 0) {
        took.try_emplace(s.op, s.end - s.start);
      }
    }
  };
  plan::Job job = plan::load_job(catalogue_path("workloads/jobs", "job", "megatron-22b-8-a100"), {});
  topologies::load_profile_of(job.cluster);
  const plan::PlanGraph graph = plan::build(job);
  Sink sink;
  const sim::Simulation forecast = sim::simulate(graph, job.cluster, {}, &sink);
  ChakraTraces t;
  const auto duration = [&](const plan::OpId& op) {
    const auto found = sink.took.find(op);
    return found == sink.took.end() ? Time{} : found->second;
  };
  plan::export_chakra(job, graph, duration, [&](const plan::ExportedFile& file) {
    if (file.name.ends_with(".et")) {
      t.origins.push_back(file.name);
      t.nodes.emplace_back();
      plan::read_chakra(file.text, file.name, [&](const ChakraNode& n) { t.nodes.back().push_back(n); });
    }
  });
  ASSERT_EQ(t.nodes.size(), 8u);  // all groups are of all 8 ranks
  const ChakraReplay r = replay(t, job.cluster, Dtype::bf16);
  EXPECT_EQ(r.recorded, forecast.step_time);
  EXPECT_NEAR(static_cast<double>(r.step.value), static_cast<double>(r.recorded.value),
              1e-3 * static_cast<double>(r.recorded.value));
  EXPECT_NE(r.step, r.recorded);
  EXPECT_TRUE(r.assumed.empty());
}

}  // namespace
}  // namespace foretrain::search
