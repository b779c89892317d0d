#include "plan/timeline.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "tests/support/message_of.h"
#include "tests/support/tiny_graphs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::pipeline_graph;
using foretrain::testing::random_graph;
using foretrain::testing::run_alone;
using foretrain::testing::tensor_parallel_graph;
using Lines = std::vector<std::string>;

Span span(OpId op, int step, StreamId stream, Rank rank, std::int64_t start, std::int64_t end, int multiplicity = 1) {
  return {op, step, stream, multiplicity, rank, Time{start}, Time{end}};
}

// Both ranks of tensor_parallel_graph measured: rank 1's matmul is slower, so that the all_reduce starts at 12.
Timeline measured() {
  Timeline t;
  t.machine = "measured: by hand";
  t.step_ends = {Time{25}};
  t.spans = {span({0, 0, 0}, 0, 0, 0, 0, 10), span({0, 0, 1}, 0, 1, 0, 12, 20), span({0, 0, 2}, 0, 0, 0, 20, 25),
             span({0, 0, 0}, 0, 0, 1, 0, 12), span({0, 0, 1}, 0, 1, 1, 12, 20), span({0, 0, 2}, 0, 0, 1, 20, 24)};
  return t;
}

// One step of pipeline_graph: a message takes 5, a fill 3, an accumulation 2.
Timeline pipelined() {
  Timeline t;
  t.machine = "simulated: by hand";
  t.step_ends = {Time{18}};
  t.spans = {span({0, 0, 0}, 0, 0, 0, 0, 3),   span({0, 0, 1}, 0, 1, 0, 3, 8),  // stage 0: fill, send
             span({0, 1, 0}, 0, 0, 0, 8, 11),  span({0, 1, 1}, 0, 1, 0, 11, 16),
             span({1, 0, 0}, 0, 1, 1, 3, 8),   span({1, 0, 1}, 0, 0, 1, 8, 10),  // stage 1: recv, accumulate
             span({1, 1, 0}, 0, 1, 1, 11, 16), span({1, 1, 1}, 0, 0, 1, 16, 18)};
  return t;
}

Lines after(const PlanGraph& g, Timeline t, const std::function<void(Timeline&)>& change, Time slack = {}) {
  change(t);
  return validate(g, t, slack);
}

TEST(ValidateTimeline, AcceptsWhatIsRight) {
  EXPECT_EQ(validate(tensor_parallel_graph(), measured()), Lines{});
  EXPECT_EQ(validate(pipeline_graph(), pipelined()), Lines{});
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const PlanGraph g = random_graph(seed, 12);
    EXPECT_EQ(validate(g, run_alone(g, 3, [](int n) { return n * 7 % 5; })), Lines{});
  }
}

TEST(ValidateTimeline, AClassStandsForItsRole) {
  Timeline t = measured();
  t.spans.resize(3);
  t.spans[1].start = Time{10};
  EXPECT_EQ(validate(tensor_parallel_graph(), t), Lines{"all: spans stand for 1 of 2 ranks"});
  for (Span& s : t.spans) {
    s.multiplicity = 2;
  }
  EXPECT_EQ(validate(tensor_parallel_graph(), t), Lines{});
}

TEST(ValidateTimeline, EveryOpOnce) {
  const PlanGraph g = tensor_parallel_graph();
  EXPECT_EQ(validate(g, Timeline{}), Lines{"no spans"});
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { t.spans.pop_back(); }),
            Lines{"rank 1 step 0: no span of all, F0 mb 0, activation.forward relu 4x4 fp32 (forward)"});
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { std::swap(t.spans[0], t.spans[1]); })[0],
            "rank 0 step 0: all, F0 mb 0, all_reduce 16 fp32 over tp as sum (forward) at 12 ps: expected all, F0 mb 0, "
            "matmul "
            "4x4x4 fp32 -> fp32 (forward) in step 0");
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { std::swap(t.spans[0], t.spans[3]); }),
            Lines{"rank 1: its spans do not stand together"});
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { t.step_ends.push_back(Time{30}); })[0],
            "rank 0: spans of 1 steps, 2 steps have an end");
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { t.spans[0].op.role = 4; }),
            Lines{"rank 0: its first span is of role 4, which it does not have"});
}

TEST(ValidateTimeline, DependenciesHoldAndStreamsDoNotOverlap) {
  const PlanGraph g = tensor_parallel_graph();
  EXPECT_EQ(
      after(g, measured(), [](Timeline& t) { t.spans[2].start = Time{19}; }),
      Lines{"rank 0 step 0: all, F0 mb 0, activation.forward relu 4x4 fp32 (forward) at 19 ps: starts before what it "
            "depends on ends, at 20 ps"});
  EXPECT_EQ(after(
                g, measured(), [](Timeline& t) { t.spans[2].start = Time{19}; }, Time{1}),
            Lines{});
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { t.spans[0].end = Time{21}; })[1],
            "rank 0 step 0: all, F0 mb 0, activation.forward relu 4x4 fp32 (forward) at 20 ps: its stream is busy "
            "until 21 ps");
  EXPECT_EQ(after(g, measured(), [](Timeline& t) { t.spans[5].end = Time{19}; })[0],
            "rank 1 step 0: all, F0 mb 0, activation.forward relu 4x4 fp32 (forward) at 20 ps: ends at 19 ps");
  // x is filled again at 8, when the first message has left: an event, and from another stream.
  EXPECT_EQ(after(pipeline_graph(), pipelined(), [](Timeline& t) { t.spans[2].start = Time{7}; }).size(), 1u);
}

TEST(ValidateTimeline, PartnersMeet) {
  EXPECT_EQ(
      after(tensor_parallel_graph(), measured(), [](Timeline& t) { t.spans[1].start = Time{11}; }),
      Lines{"rank 1 step 0: all, F0 mb 0, all_reduce 16 fp32 over tp as sum (forward) at 12 ps: another member starts "
            "at 11 ps"});
  EXPECT_EQ(
      after(pipeline_graph(), pipelined(),
            [](Timeline& t) {
              t.spans[4] = span({1, 0, 0}, 0, 1, 1, 0, 2);
            }),
      Lines{"rank 1 step 0: stage 1, F0 mb 0, recv 8 fp32 from pp 0 as act (forward) at 0 ps: received at 2 ps what is "
            "sent from 3 ps on"});
}

TEST(ValidateTimeline, StepsEndWithTheirLastOp) {
  EXPECT_EQ(after(pipeline_graph(), pipelined(), [](Timeline& t) { t.step_ends[0] = Time{17}; }),
            Lines{"step 0 ends at 17 ps; its last op ends at 18 ps"});
  // Spans may begin at a later step: a run need not be traced from its start.
  EXPECT_EQ(after(pipeline_graph(), pipelined(),
                  [](Timeline& t) {
                    for (Span& s : t.spans) {
                      s.step = 5;
                    }
                  }),
            Lines{});
}

bool equal(const Span& a, const Span& b) {
  return a.op == b.op && a.step == b.step && a.stream == b.stream && a.multiplicity == b.multiplicity &&
         a.rank == b.rank && a.start == b.start && a.end == b.end;
}

TEST(TimelineJson, ComesBackEqual) {
  for (const Timeline& t : {Timeline{}, measured(), pipelined()}) {
    const Timeline back = timeline_from_json(to_json(t), "t.json");
    EXPECT_EQ(back.machine, t.machine);
    EXPECT_EQ(back.step_ends, t.step_ends);
    EXPECT_TRUE(std::equal(back.spans.begin(), back.spans.end(), t.spans.begin(), t.spans.end(), equal));
  }
}

TEST(TimelineJson, LooksLikeThis) {
  Timeline t;
  t.machine = "a \"machine\"";
  t.step_ends = {Time{7}, Time{9}};
  t.spans = {span({1, 2, 3}, 4, 5, 6, 7, 8, 9)};
  EXPECT_EQ(to_json(t),
            "{\"schema\":\"foretrain.timeline/1\",\n\"machine\":\"a \\\"machine\\\"\",\n\"step_ends_ps\":[7,9],\n"
            "\"fields\":\"role, instance, position, step, stream, multiplicity, rank, start_ps, end_ps\",\n"
            "\"spans\":[\n[1,2,3,4,5,9,6,7,8]]}\n");
  t.stolen = {Time{}, Time{1}};
  EXPECT_NE(to_json(t).find("\"step_ends_ps\":[7,9],\n\"stolen_ps\":[0,1],\n"), std::string::npos);
  EXPECT_EQ(timeline_from_json(to_json(t), "t.json").stolen, t.stolen);
}

TEST(TimelineJson, SaysWhatIsWrong) {
  const auto message = [](const std::string& text) {
    return foretrain::test::message_of([&] { timeline_from_json(text, "t.json"); });
  };
  const std::string head = R"({"schema":"foretrain.timeline/1","machine":"m","step_ends_ps":[],"spans":)";
  EXPECT_EQ(message("[]"), "t.json: /: expected an object");
  EXPECT_EQ(message(R"({"schema":"foretrain.timeline/1","machine":"m","step_ends_ps":[1],"stolen_ps":[],"spans":[]})"),
            "t.json: /stolen_ps: expected an array as long as \"step_ends_ps\"");
  EXPECT_EQ(message("{}"), "t.json: /schema: missing");
  EXPECT_EQ(message(R"({"schema":"x"})"), "t.json: /schema: \"x\" is not allowed; expected \"foretrain.timeline/1\"");
  EXPECT_EQ(
      message(head + "[[1]]}"),
      "t.json: /spans/0: expected [role, instance, position, step, stream, multiplicity, rank, start_ps, end_ps]");
  EXPECT_EQ(message(head + "[[0,0,0,0,0,0,0,0,0]]}"),
            "t.json: /spans/0/5: 0 is not allowed; expected an integer from 1 to 1073741823");
  EXPECT_EQ(message(head + "[[0,0,0,0,200,1,0,0,0]]}"),
            "t.json: /spans/0/4: 200 is not allowed; expected an integer from 0 to 63");
  EXPECT_EQ(message(head + "[[0,0,0,0,0,1,0,5,4]]}"),
            "t.json: /spans/0/8: 4 is not allowed; expected an integer from 5 to 4611686018427387903");
  EXPECT_EQ(message(head + "[[0,0,0,0,0,1,0,5,18446744073709551615]]}").substr(0, 41),
            "t.json: /spans/0/8: 18446744073709551615 ");
  EXPECT_EQ(message("{").substr(0, 24), "t.json:1: not valid JSON");
}

}  // namespace
}  // namespace foretrain::plan
