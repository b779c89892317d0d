#include "search/pipeline_rows.h"

#include <gtest/gtest.h>

#include <random>

namespace foretrain::search {
namespace {

Shape pipeline(const std::string& schedule, std::int64_t pp, std::int64_t virtual_stages, std::int64_t microbatches) {
  Shape s;
  s.schedule = schedule;
  s.pp = pp;
  s.virtual_stages = virtual_stages;
  s.microbatches = microbatches;
  return s;
}

plan::Schedule whole(const Shape& s) {
  const auto m = static_cast<int>(s.microbatches), pp = static_cast<int>(s.pp), v = static_cast<int>(s.virtual_stages);
  return s.schedule == "gpipe"        ? plan::gpipe(pp, m)
         : s.schedule == "zb_h1"      ? plan::zb_h1(pp, m)
         : s.schedule == "zb_h2"      ? plan::zb_h2(pp, m)
         : s.schedule == "zb_v"       ? plan::zb_v(pp, m)
         : s.schedule == "dualpipe_v" ? plan::dualpipe_v(pp, m)
         : v > 1                      ? plan::interleaved(pp, v, m)
                                      : plan::one_f_one_b(pp, m);
}

// 1F1B of 2 ranks and 3 microbatches, F 1 and B 2: rank 0 is busy 9 and waits for F and B of rank 1 once.
TEST(PipelineRows, OneForwardOneBackwardByHand) {
  PipelineRows rows;
  EXPECT_EQ(rows.least_by_rank(pipeline("1f1b", 2, 1, 3), {2, plan::Durations{}}), (std::vector<std::int64_t>{12, 9}));
  // F, a message, F and B of rank 1, a message, B.
  plan::Durations slow;
  slow.message = 1;
  EXPECT_EQ(rows.least_by_rank(pipeline("1f1b", 2, 1, 1), {2, slow}), (std::vector<std::int64_t>{8, 3}));
  EXPECT_EQ(rows.in_flight(pipeline("1f1b", 2, 1, 3)), 2);
  EXPECT_EQ(rows.in_flight(pipeline("gpipe", 2, 1, 3)), 3);
  EXPECT_EQ(rows.stages_of(pipeline("zb_v", 2, 2, 4), 0), (std::vector<std::int32_t>{0, 3}));
}

// What is said of many microbatches is no more than the walk of all of them.
TEST(PipelineRows, NeverAboveTheWholeSchedule) {
  std::mt19937 random(7);
  PipelineRows rows;
  int exact = 0, all = 0;
  for (const auto& [schedule, chunks] : std::vector<std::pair<std::string, std::int64_t>>{{"1f1b", 1},
                                                                                          {"1f1b", 2},
                                                                                          {"1f1b", 3},
                                                                                          {"gpipe", 1},
                                                                                          {"zb_h1", 1},
                                                                                          {"zb_h2", 1},
                                                                                          {"zb_v", 2},
                                                                                          {"dualpipe_v", 2}}) {
    for (std::int64_t pp = 1; pp <= 5; ++pp) {
      for (const std::int64_t rounds : {1, 3, 4, 5, 7, 12}) {
        for (int draw = 0; draw < 6; ++draw) {
          if (pp == 1 && (chunks > 1 || schedule != "1f1b")) {
            continue;
          }
          const Shape shape = pipeline(schedule, pp, chunks, rounds * pp);
          std::vector<plan::Durations> stages(static_cast<std::size_t>(pp * chunks));
          for (plan::Durations& d : stages) {
            const auto draw_to = [&](std::uint32_t most) { return static_cast<std::int64_t>(1 + random() % most); };
            d = {draw_to(20), draw_to(40), draw_to(20), draw_to(20), draw_to(4) - 1};
          }
          const plan::Schedule s = whole(shape);
          const plan::ScheduleTimes t = plan::times(s, stages);
          const std::vector<std::int64_t> least = rows.least_by_rank(shape, stages),
                                          walked = rows.walked_by_rank(shape, stages);
          for (std::size_t rank = 0; rank < s.size(); ++rank) {
            const plan::Action& last = s[rank].back();
            const std::int64_t took = t.start[rank].back() +
                                      stages[static_cast<std::size_t>(last.stage)].of(last.kind) -
                                      t.start[rank].front();
            EXPECT_LE(least[rank], took) << schedule << " x " << chunks << ", pp " << pp << ", microbatches "
                                         << shape.microbatches << ", rank " << rank;
            EXPECT_EQ(walked[rank], took);
            exact += least[rank] == took ? 1 : 0;
            ++all;
          }
        }
      }
    }
  }
  EXPECT_GT(exact, all / 2);  // and not far below it
}

}  // namespace
}  // namespace foretrain::search
