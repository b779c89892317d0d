#include "reports/trace.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "plan/build.h"
#include "plan/memory.h"
#include "tests/reports/fake_timeline.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::reports {
namespace {

using testing::kTinyGpt;
using testing::tiny_job;
constexpr Time kOpTime{1500001};  // 1.500001 us

nlohmann::json trace_of(const plan::PlanGraph& graph, const std::vector<TracedTimeline>& timelines) {
  std::string text;
  write_trace(graph, timelines, [&](std::string_view piece) { text += piece; });
  return nlohmann::json::parse(text);
}

TEST(Trace, BothTimelinesSideBySide) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt, {"pp=2", "dp=2"}));
  const plan::Timeline forecast = fake_timeline(graph, 2, kOpTime, true);
  const plan::Timeline measured = fake_timeline(graph, 2, kOpTime, false);
  const nlohmann::json trace = trace_of(graph, {traced(forecast, "forecast"), traced(measured, "measured")});

  std::map<std::int64_t, std::string> processes;
  std::size_t slices = 0;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] == "M" && event["name"] == "process_name") {
      processes[event["pid"]] = event["args"]["name"];
    }
    slices += event["ph"] == "X" ? 1 : 0;
  }
  EXPECT_EQ(slices, forecast.spans.size() + measured.spans.size());
  // Two roles in the forecast, four ranks measured; rank 0's two processes are neighbours.
  ASSERT_EQ(processes.size(), 6U);
  EXPECT_EQ(processes.begin()->second, "rank 0 (1 of 2), stage 0: forecast");
  EXPECT_EQ(std::next(processes.begin())->second, "rank 0, stage 0: measured");
}

TEST(Trace, SlicesCarryTheirOp) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt));
  const plan::Timeline t = fake_timeline(graph, 1, kOpTime, false);
  const nlohmann::json trace = trace_of(graph, {traced(t, "measured")});
  std::set<std::string> categories;
  std::size_t k = 0;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") {
      continue;
    }
    // Back to back, 1.500001 us each: exact decimals, so 6 digits behind the point.
    EXPECT_NEAR(event["ts"].get<double>(), 1.500001 * static_cast<double>(k), 1e-6);
    EXPECT_DOUBLE_EQ(event["dur"].get<double>(), 1.500001);
    EXPECT_TRUE(event["args"].contains("op"));
    EXPECT_TRUE(event["args"].contains("kind"));
    categories.insert(event["cat"].get<std::string>());
    ++k;
  }
  EXPECT_EQ(k, t.spans.size());
  for (const char* phase : {"forward", "backward_input", "backward_weight", "optimizer"}) {
    EXPECT_TRUE(categories.count(phase)) << phase;
  }
}

TEST(Trace, CountersFollowTheMemoryPlan) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt, {"pp=2"}));
  const plan::Timeline t = fake_timeline(graph, 1, kOpTime, true);
  const nlohmann::json trace = trace_of(graph, {traced(t, "forecast")});
  std::map<std::int64_t, std::vector<std::int64_t>> bytes;  // by process
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] == "C") {
      bytes[event["pid"]].push_back(event["args"]["planned bytes"]);
    }
  }
  // One value for each instance of the body, as the curve has it; a process for each of the two roles.
  ASSERT_EQ(bytes.size(), 2U);
  std::size_t r = 0;
  for (const auto& [pid, values] : bytes) {
    const plan::Role& role = graph.roles[r++];
    const plan::MemoryCurve curve = plan::memory_curve(role);
    ASSERT_EQ(values.size(), role.program.body.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(values[i], curve.live[role.program.prologue.size() + i].value) << i;
    }
  }
}

TEST(Trace, EverySendHasOneReceive) {
  for (const bool by_role : {true, false}) {
    const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt, {"pp=2", "dp=2"}));
    const plan::Timeline t = fake_timeline(graph, 2, kOpTime, by_role);
    std::map<int, int> starts, ends;
    const nlohmann::json trace = trace_of(graph, {traced(t, "x")});
    for (const nlohmann::json& event : trace["traceEvents"]) {
      if (event["ph"] == "s") {
        ++starts[event["id"]];
      } else if (event["ph"] == "f") {
        ++ends[event["id"]];
        EXPECT_EQ(event["bp"], "e");
      }
    }
    EXPECT_FALSE(starts.empty());
    EXPECT_EQ(starts, ends);
    for (const auto& [id, times] : starts) {
      EXPECT_EQ(times, 1) << id;
    }
  }
}

TEST(Trace, OneStepStartsAtZero) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt));
  const plan::Timeline t = fake_timeline(graph, 3, kOpTime, false);
  double first = 1e9;
  std::size_t slices = 0;
  const nlohmann::json trace = trace_of(graph, {traced_step(t, "x", 2)});
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") {
      first = std::min(first, event["ts"].get<double>());
      ++slices;
    }
  }
  EXPECT_EQ(first, 0);
  EXPECT_EQ(slices, t.spans.size() / 3);
}

TEST(Trace, NoTimelineIsAnEmptyTrace) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt));
  EXPECT_TRUE(trace_of(graph, {})["traceEvents"].empty());
}

}  // namespace
}  // namespace foretrain::reports
