#include "reports/report.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/build.h"
#include "plan/locate.h"
#include "plan/memory.h"
#include "tests/reports/fake_timeline.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::reports {
namespace {

using testing::kTinyGpt;
using testing::tiny_job;

plan::Span span(plan::OpId op, int step, std::int64_t start, std::int64_t end, plan::StreamId stream = plan::kCompute) {
  plan::Span s;
  s.op = op;
  s.step = step;
  s.start = Time{start};
  s.end = Time{end};
  s.stream = stream;
  return s;
}

// Instance of the first pass of a microbatch in the role's body.
std::int32_t first_pass(const plan::Role& role) {
  const plan::Program& p = role.program;
  for (std::size_t i = 0; i < p.body.size(); ++i) {
    if (p.body[i].microbatch >= 0) {
      return plan::first_body_instance(p) + static_cast<std::int32_t>(i);
    }
  }
  return -1;
}

TEST(Pipeline, AnInstanceIsABarOfEachStream) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt));
  const std::int32_t f0 = first_pass(graph.roles[0]);
  PipelineRecorder recorder(graph, 1);
  recorder.span(span({0, f0, 0}, 0, 0, 90));     // of the step before
  recorder.span(span({0, f0, 0}, 1, 100, 100));  // takes no time: where it waits is not where the bar begins
  recorder.span(span({0, f0, 1}, 1, 110, 130));
  recorder.span(span({0, f0, 2}, 1, 150, 160));  // after a wait of 20
  recorder.span(span({0, f0 + 1, 0}, 1, 160, 200));
  recorder.span(span({0, f0, 3}, 1, 130, 150, 1));  // beside it, on another stream
  const Pipeline p = recorder.pipeline();
  EXPECT_EQ(p.start.value, 110);
  EXPECT_EQ(p.end.value, 200);
  ASSERT_EQ(p.lanes.size(), 2U);
  ASSERT_EQ(p.lanes[0].bars.size(), 2U);
  EXPECT_EQ(p.lanes[0].bars[0].start.value, 110);
  EXPECT_EQ(p.lanes[0].bars[0].end.value, 160);
  EXPECT_EQ(p.lanes[0].bars[0].busy.value, 30);  // 20 + 10
  EXPECT_EQ(p.lanes[0].bars[1].busy.value, 40);
  EXPECT_EQ(p.lanes[1].stream, 1);
  EXPECT_EQ(p.lanes[1].bars[0].busy.value, 20);
}

TEST(Pipeline, PartsOfAnUpdateLieApart) {
  const plan::PlanGraph graph = plan::build(tiny_job(kTinyGpt));
  const plan::Role& role = graph.roles[0];
  const std::int32_t update =
      plan::first_body_instance(role.program) + static_cast<std::int32_t>(role.program.body.size()) - 1;
  PipelineRecorder recorder(graph, 0);
  recorder.span(span({0, update, 0}, 0, 0, 10));
  recorder.span(span({0, update, 1}, 0, 15, 20));  // a wait of 5, and 10 before it: the same bar
  recorder.span(span({0, update, 2}, 0, 50, 60));  // a wait of 30, and 20 before it
  const Pipeline p = recorder.pipeline();
  ASSERT_EQ(p.lanes[0].bars.size(), 2U);
  EXPECT_EQ(p.lanes[0].bars[0].end.value, 20);
  EXPECT_EQ(activity(role.segments[static_cast<std::size_t>(role.program.body.back().segment)]), Activity::update);
}

Report tiny_report(const plan::Job& job, const plan::PlanGraph& graph) {
  Report r;
  r.estimate.job = &job;
  r.estimate.graph = &graph;
  r.estimate.step_time = Time{2'000'000'000};
  r.estimate.by_role.resize(graph.roles.size());
  r.estimate.by_role[0].compute = Time{2'000'000'000};
  r.estimate.fit = plan::memory_fit(job, graph);
  r.estimate.error_band = {0.0019, 0.0021, "a test"};
  PipelineRecorder recorder(graph, 1);
  for (const plan::Span& s : fake_timeline(graph, 2, Time{1000}, true).spans) {
    recorder.span(s);
  }
  r.pipeline = recorder.pipeline();
  r.program = "foretrain test";
  return r;
}

TEST(ReportPage, CarriesItsDocumentAndNothingFromElsewhere) {
  plan::Job job = tiny_job(kTinyGpt);
  job.name = "</script><script>alert(1)</script> @STYLE@ \u00e4";
  const plan::PlanGraph graph = plan::build(job);
  const Report report = tiny_report(job, graph);
  const std::string page = to_html(report);
  EXPECT_TRUE(is_report_page(page));
  EXPECT_EQ(document_of_page(page, "x"), nlohmann::json(to_json(report)));
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)&lt;/script&gt; @STYLE@ \u00e4"), std::string::npos);
  for (const char* loads : {"src=", "<link", "@import", "url(", "fetch(", "XMLHttpRequest"}) {
    EXPECT_EQ(page.find(loads), std::string::npos) << loads;
  }
}

TEST(ReportPage, DamagedOnesAreRefused) {
  EXPECT_THROW(document_of_page("<html></html>", "x.html"), InputError);
  const std::string open = "<script type=\"application/json\" id=\"foretrain-report\">";
  for (const char* content :
       {"", "{", "[1]", R"({"schema": "foretrain.report/2"})", R"({"schema": "foretrain.report/1"})"}) {
    EXPECT_THROW(document_of_page(open + content + "</script>", "x.html"), InputError) << content;
  }
  EXPECT_THROW(document_of_page(open + "{}", "x.html"), InputError);  // has no end
  const std::string deep(1'000'000, '[');
  EXPECT_THROW(
      document_of_page(open + R"({"schema": "foretrain.report/1", "estimate": {"resolved": )" + deep + "</script>",
                       "x.html"),
      InputError);
}

// What the page's scripts do: bars as [start, end, busy, activity, text] in ticks.
std::vector<std::array<long long, 5>> bars_of(const nlohmann::ordered_json& pipeline,
                                              const nlohmann::ordered_json& lane) {
  std::vector<std::array<long long, 5>> bars;
  std::map<long long, long long> text;  // the last one of each activity
  long long at = 0;
  for (const nlohmann::ordered_json& number : lane["bars"]) {
    const auto row = pipeline["rows"].at(number.get<std::size_t>()).get<std::array<long long, 5>>();
    const long long start = at + row[0];
    at = start + row[1];
    text[row[3]] += row[4];
    bars.push_back({start, at, row[2], row[3], text[row[3]]});
  }
  return bars;
}

TEST(Report, BarsAndMemoryAreNumberedRows) {
  const plan::Job job = tiny_job(kTinyGpt, {"pp=2"});
  const plan::PlanGraph graph = plan::build(job);
  const Report report = tiny_report(job, graph);
  const nlohmann::ordered_json document = to_json(report);
  const nlohmann::ordered_json& pipeline = document["pipeline"];
  const double tick = pipeline["tick_s"];
  std::size_t all = 0;
  for (std::size_t i = 0; i < report.pipeline.lanes.size(); ++i) {
    const Lane& lane = report.pipeline.lanes[i];
    const plan::Role& role = graph.roles[static_cast<std::size_t>(lane.role)];
    const auto bars = bars_of(pipeline, pipeline["lanes"][i]);
    ASSERT_EQ(bars.size(), lane.bars.size());
    all += bars.size();
    for (std::size_t k = 0; k < bars.size(); ++k) {
      const auto ticks = [&](Time t) { return std::llround(seconds(t) / tick); };
      const plan::Instance& instance = *plan::instance_at(role, lane.bars[k].instance);
      EXPECT_EQ(bars[k][0], ticks(lane.bars[k].start - report.pipeline.start));
      EXPECT_EQ(bars[k][1] - bars[k][0], ticks(lane.bars[k].end - lane.bars[k].start));
      EXPECT_EQ(bars[k][2], ticks(lane.bars[k].busy));
      EXPECT_EQ(bars[k][3],
                static_cast<long long>(activity(role.segments[static_cast<std::size_t>(instance.segment)])));
      EXPECT_EQ(pipeline["texts"].at(static_cast<std::size_t>(bars[k][4])), bar_text(role, instance));
    }
  }
  EXPECT_LT(pipeline["rows"].size(), all / 2);  // most bars are like others
  const nlohmann::ordered_json& memory = document["memory"];
  for (std::size_t i = 0; i < graph.roles.size(); ++i) {
    const plan::MemoryCurve curve = plan::memory_curve(graph.roles[i]);
    const auto lane = std::find_if(report.pipeline.lanes.begin(), report.pipeline.lanes.end(), [&](const Lane& l) {
      return l.rank == memory["roles"][i]["rank"] && l.stream == plan::kCompute;
    });
    ASSERT_EQ(memory["roles"][i]["live"].size(), lane->bars.size());
    long long live = 0;
    for (std::size_t k = 0; k < lane->bars.size(); ++k) {
      live += memory["changes"].at(memory["roles"][i]["live"][k].get<std::size_t>()).get<long long>();
      EXPECT_EQ(live, curve.live.at(static_cast<std::size_t>(lane->bars[k].instance)).value);
    }
  }
}

TEST(Report, SaysWhatMoreOfAResourceBuysOrWhyNot) {
  const plan::Job job = tiny_job(kTinyGpt);
  const plan::PlanGraph graph = plan::build(job);
  Report report = tiny_report(job, graph);
  report.no_resources = "It takes long.";
  EXPECT_EQ(to_json(report)["no_resources"], "It takes long.");
  EXPECT_NE(to_markdown(report).find("It takes long."), std::string::npos);
  EXPECT_NE(to_text(report, false).find("It takes long."), std::string::npos);
  report.no_resources.clear();
  report.resources = {{"peak_flops", "peak FLOP/s", 1.1, Time{1'900'000'000}, 0.05, ""}};
  EXPECT_EQ(to_json(report)["resources"][0]["gain"], 0.05);
  EXPECT_EQ(to_json(report)["resources"][0]["words"], "peak FLOP/s");
  EXPECT_NE(to_csv(report).find("resources,peak_flops,step_time,0.0019,s\nresources,peak_flops,gain,0.05,\n"),
            std::string::npos);
  EXPECT_NE(to_markdown(report).find("| peak FLOP/s | +10.0 % | 1.90 ms | 5.0 % |"), std::string::npos);
}

constexpr const char* kSearch = R"({"schema": "foretrain.search/1",
  "best": {"job": {"strategy": {"dp": 1, "tp": 2, "pp": 4, "micro_batch": 1, "schedule": "1f1b", "zero": 1, "recompute": "none",
                                "sequence_parallel": true, "rank_order": "pp,dp,cp,tp"}},
           "estimate": {"step_time_s": 2.5, "tokens_per_s": 1000, "memory": {"peak_bytes": 5, "demand_bytes": 7}}},
  "pareto": [{"job": {"strategy": {"tp": 4}}, "estimate": {"step_time_s": 3, "tokens_per_s": 900, "memory": {"peak_bytes": 4}}},
             {"job": {}, "estimate": {}}, 17],
  "runners_up": [{"job": {"strategy": {"tp": 4}}, "estimate": {"step_time_s": 3, "tokens_per_s": 900}},
                 {"job": {"strategy": {"tp": 8}}, "estimate": {"step_time_s": 4, "tokens_per_s": 800}}],
  "scaling": [{"nodes": 1, "step_time_s": null, "money": null, "knee": false, "job": null},
              {"nodes": 2, "step_time_s": 2, "tokens_per_s": 5, "efficiency": 1, "days": 3, "device_hours": 4, "money": 9,
               "knee": true, "job": {"strategy": {"tp": 4}}}],
  "grid": [{"tp": 2, "pp": 4, "step_time_s": 2.5, "fits": true}, {"tp": 1, "pp": 1, "step_time_s": null, "at_least_s": 9, "fits": false, "reason": "bound"}],
  "rejected": {"memory": 12}, "judged": 20, "simulated": 8, "bound": {"best_possible_step_time_s": 2.5, "proved_optimal": true}})";

TEST(SearchFigures, AreReadFromItsDocument) {
  const SearchFigures s = search_figures(kSearch, "s.json");
  ASSERT_EQ(s.plans.size(), 2U);
  EXPECT_TRUE(s.plans[0].is_best);
  EXPECT_EQ(s.plans[0].strategy, "tp 2, pp 4, micro_batch 1, 1f1b, zero 1, sequence_parallel");
  EXPECT_EQ(s.plans[0].memory_bytes, 7);
  EXPECT_EQ(s.plans[1].memory_bytes, 4);
  ASSERT_EQ(s.runners_up.size(), 1U);  // the other one is of the Pareto set
  EXPECT_EQ(s.runners_up[0].strategy, "tp 8");
  ASSERT_EQ(s.scaling.size(), 2U);
  EXPECT_FALSE(s.scaling[0].step_seconds);
  EXPECT_EQ(s.scaling[1].money, 9);
  EXPECT_TRUE(s.scaling[1].is_knee);
  EXPECT_EQ(s.scaling[1].strategy, "tp 4");
  ASSERT_EQ(s.grid.size(), 2U);
  EXPECT_EQ(s.grid[0].step_seconds, 2.5);
  EXPECT_FALSE(s.grid[1].step_seconds);
  EXPECT_EQ(s.grid[1].at_least_seconds, 9);
  EXPECT_EQ(s.rejected, (std::vector<std::pair<std::string, std::int64_t>>{{"memory", 12}}));
  EXPECT_TRUE(s.proved);
  EXPECT_NE(best_job(kSearch, "s.json").find("\"tp\": 2"), std::string::npos);
}

// Fast and large, slow and small; a plan within a limit beats one of the Pareto set in both.
TEST(SearchFigures, PlansWithinLessMemoryAreOfTheParetoSetAndMoneyGoesWithTime) {
  const auto item = [](int tp, int step, int memory) {
    return fmt::format(
        R"({{"job": {{"strategy": {{"tp": {}}}}}, "estimate": {{"step_time_s": {}, "memory": {{"demand_bytes": {}}}}}}})",
        tp, step, memory);
  };
  SearchFigures s =
      search_figures(fmt::format(R"({{"schema": "foretrain.search/1", "best": {}, "pareto": [{}], "runners_up": [{}],
                     "within_memory": [{{"limit_bytes": 8, "plan": {}}}, {{"limit_bytes": 4, "plan": null}}]}})",
                                 item(2, 10, 9), item(4, 14, 7), item(1, 11, 9), item(8, 12, 6)),
                     "s.json");
  ASSERT_EQ(s.plans.size(), 2U);
  EXPECT_EQ(s.plans[1].strategy, "tp 8");
  set_money(s, 500);
  EXPECT_EQ(s.plans[0].money, 500);
  EXPECT_EQ(s.plans[1].money, 600);  // 500 x 12/10
  EXPECT_EQ(s.runners_up[0].money, 550);
  EXPECT_EQ(to_json(s)["plans"][1]["money"], 600);
}

TEST(SearchFigures, OtherDocumentsAreRefused) {
  for (const char* text : {"", "{", "[]", "{}", R"({"schema": "foretrain.estimate/1"})", R"({"schema": 7})"}) {
    EXPECT_THROW(search_figures(text, "s.json"), InputError) << text;
  }
  EXPECT_THROW(search_figures(R"({"schema": "foretrain.search/1", "best": )" + std::string(1'000'000, '['), "s.json"),
               InputError);
  // Of the right schema, with nothing in it, or with what nobody expects.
  EXPECT_TRUE(search_figures(R"({"schema": "foretrain.search/1"})", "s.json").plans.empty());
  EXPECT_TRUE(
      search_figures(
          R"({"schema": "foretrain.search/1", "best": 1, "pareto": {"a": 2}, "grid": "no", "rejected": [1]})", "s")
          .plans.empty());
  EXPECT_EQ(best_job(R"({"schema": "foretrain.search/1", "best": null})", "s"), "");
}

}  // namespace
}  // namespace foretrain::reports
