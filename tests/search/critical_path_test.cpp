#include "search/critical_path.h"

#include <gtest/gtest.h>

#include <set>

#include "plan/build.h"
#include "plan/locate.h"
#include "sim/simulator.h"
#include "tests/support/tiny_graphs.h"
#include "tests/support/tiny_jobs.h"
#include "topologies/profile.h"

namespace foretrain::search {
namespace {

using testing::op;
using testing::whole;

plan::Job two_nodes(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all{"cluster.nodes=2", "strategy.dp=2", "strategy.tp=2", "strategy.pp=2"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  plan::Job job = testing::tiny_job(testing::kTinyOnH100, all);
  topologies::load_profile_of(job.cluster);
  return job;
}

plan::Span span(int position, plan::StreamId stream, std::int64_t start, std::int64_t end, plan::Rank rank = 0) {
  return {{0, 0, position}, 0, stream, 1, rank, Time{start}, Time{end}};
}

// "kind ops time", the longest first.
std::vector<std::string> path(const plan::PlanGraph& graph, std::vector<plan::Span> spans) {
  plan::Timeline t;
  Time end;
  for (const plan::Span& s : spans) {
    end = std::max(end, s.end);
  }
  t.spans = std::move(spans);
  t.step_ends = {end};
  std::vector<std::string> lines;
  for (const PathPart& p : critical_path(graph, two_nodes().cluster, t)) {
    lines.push_back(p.kind + " " + std::to_string(p.ops) + " " + std::to_string(p.time.value));
  }
  return lines;
}

using Lines = std::vector<std::string>;

// One rank, streams "compute", "copy" and "more". The op behind all others is on `stream` and waits as told.
plan::PlanGraph ties(plan::StreamId stream, std::vector<std::uint16_t> after) {
  using namespace plan;
  PlanGraph g;
  g.microbatches = 1;
  Role role;
  role.streams = {{"compute", StreamKind::compute, Axis::tp},
                  {"copy", StreamKind::copy, Axis::tp},
                  {"more", StreamKind::copy, Axis::tp}};
  role.buffers = {{"x", Dtype::fp32, 8, BufferKind::activation, Lifetime::persistent, 0}};
  role.blocks = {{"block",
                  {op(Fill{8, Dtype::fp32}, kCompute, {}, {whole(0, 8)}), op(Copy{}, 1, {whole(0, 8)}, {whole(0, 8)}),
                   op(Join{}, kCompute, {}, {}, {1}),
                   op(Accumulate{8, Dtype::fp32, Dtype::fp32}, stream, {whole(0, 8), whole(0, 8)}, {whole(0, 8)},
                      std::move(after))}}};
  role.segments = {{"F0", 0, 0, {{0, 1, -1, 1}}}};
  role.program.body = {{0, 0, -1, -1}};
  g.roles = {role};
  return g;
}

// The fill (0 to 10) and the copy (4 to 10) end when the last op begins, which runs to 15.
TEST(CriticalPath, OfATieTakesWhatTheOpDependsOn) {
  const std::vector<plan::Span> spans{span(0, 0, 0, 10), span(1, 1, 4, 10), span(3, 0, 10, 15)};
  EXPECT_EQ(path(ties(plan::kCompute, {1}), spans), (Lines{"copy.device_to_device 1 6", "accumulate 1 5", " 1 4"}));
  EXPECT_EQ(path(ties(plan::kCompute, {0}), spans), (Lines{"fill 1 10", "accumulate 1 5"}));
}

TEST(CriticalPath, OfATieElseTakesWhatStoodBeforeOnTheStream) {
  EXPECT_EQ(path(ties(1, {}), {span(0, 0, 0, 10), span(1, 1, 4, 10), span(3, 1, 10, 15)}),
            (Lines{"copy.device_to_device 1 6", "accumulate 1 5", " 1 4"}));
}

// Nothing says why the last op began then: its rank's lowest stream.
TEST(CriticalPath, OfATieLastTakesTheLowestStream) {
  EXPECT_EQ(path(ties(2, {}), {span(0, 0, 0, 10), span(1, 1, 4, 10), span(3, 2, 10, 15)}),
            (Lines{"fill 1 10", "accumulate 1 5"}));
}

// The join at 10 takes no time: behind it stands the copy that it waited for, not the fill, which was over at 8.
TEST(CriticalPath, PassesThroughJoins) {
  EXPECT_EQ(
      path(ties(plan::kCompute, {}), {span(0, 0, 0, 8), span(1, 1, 0, 10), span(2, 0, 10, 10), span(3, 0, 10, 15)}),
      (Lines{"copy.device_to_device 1 10", "accumulate 1 5"}));
}

// A host that submits late: from 10 to 12 nothing ran.
TEST(CriticalPath, CountsWaitsForNobody) {
  EXPECT_EQ(path(ties(plan::kCompute, {}), {span(0, 0, 0, 10), span(3, 0, 12, 15)}),
            (Lines{"fill 1 10", "accumulate 1 3", " 1 2"}));
}

// Ranks 0 and 1 are a group, 2 and 3 another. The sum of 2 and 3 waited for rank 3's product (0 to 10), not for rank
// 0's (6 to 10), which ended then too and whose sum waited for rank 1's.
TEST(CriticalPath, CrossesToThePartnerOfTheMeeting) {
  plan::PlanGraph g = testing::tensor_parallel_graph();
  g.mesh.extent = {2, 1, 1, 2};
  EXPECT_EQ(path(g, {span(0, 0, 6, 10, 0), span(1, 1, 12, 14, 0), span(2, 0, 14, 15, 0), span(0, 0, 0, 12, 1),
                     span(1, 1, 12, 14, 1), span(2, 0, 14, 15, 1), span(0, 0, 0, 4, 2), span(1, 1, 10, 14, 2),
                     span(2, 0, 14, 17, 2), span(0, 0, 0, 10, 3), span(1, 1, 10, 14, 3), span(2, 0, 14, 16, 3)}),
            (Lines{"matmul 1 10", "all_reduce 1 4", "activation.forward 1 3"}));
}

class Recorder : public plan::SpanSink {
 public:
  void span(const plan::Span& s) override { spans.push_back(s); }
  std::vector<plan::Span> spans;
};

// Of simulated jobs the parts add up to the last step, and name kinds of the graph alone.
TEST(CriticalPath, AddsUpToTheStep) {
  for (const std::vector<std::string>& plan : std::vector<std::vector<std::string>>{
           {}, {"strategy.dp=8", "strategy.tp=1", "strategy.pp=1", "strategy.zero=3"}, {"strategy.schedule=gpipe"}}) {
    const plan::Job job = two_nodes(plan);
    const plan::PlanGraph graph = plan::build(job);
    Recorder recorder;
    const sim::Simulation s = sim::simulate(graph, job.cluster, {}, &recorder);
    plan::Timeline t;
    t.spans = recorder.spans;
    std::set<std::string> kinds{""};
    for (const plan::Span& each : t.spans) {
      kinds.insert(plan::kind_name(plan::locate(graph, each.op).op->work));
      t.step_ends.resize(std::max(t.step_ends.size(), static_cast<std::size_t>(each.step) + 1));
      Time& end = t.step_ends[static_cast<std::size_t>(each.step)];
      end = std::max(end, each.end);
    }
    ASSERT_EQ(t.step_ends.size(), 2u);
    const std::vector<PathPart> parts = critical_path(graph, job.cluster, t);
    Time sum;
    for (const PathPart& p : parts) {
      sum += p.time;
      EXPECT_EQ(kinds.count(p.kind), 1u) << p.kind;
      EXPECT_GT(p.time, Time{});
    }
    EXPECT_EQ(sum, t.step_ends[1] - t.step_ends[0]);
    EXPECT_EQ(sum, s.step_time);
  }
}

}  // namespace
}  // namespace foretrain::search
