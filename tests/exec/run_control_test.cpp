#include "exec/run_control.h"

#include <gtest/gtest.h>

#include <thread>

namespace foretrain::exec {
namespace {

constexpr std::chrono::milliseconds kNoTime{0};

TEST(RunControl, AStepEndsWithItsLastRank) {
  RunControl control(2, 5, 1);
  EXPECT_EQ(control.wait_for_step(0, kNoTime), RunControl::Wait::under_way);
  control.finish_step(5, Time{30});
  EXPECT_EQ(control.wait_for_step(0, kNoTime), RunControl::Wait::under_way);
  control.finish_step(5, Time{20});
  EXPECT_EQ(control.wait_for_step(0, kNoTime), RunControl::Wait::ended);
  EXPECT_EQ(control.outcome(0).end, Time{30});
}

// The waiting thread may look after all ranks have gone: what ended before is still there, what did not never comes.
TEST(RunControl, RanksThatHaveGoneLeaveTheirSteps) {
  RunControl control(1, 0, 2);
  control.finish_step(0, Time{1});
  control.end_rank(nullptr);
  EXPECT_EQ(control.wait_for_step(0, kNoTime), RunControl::Wait::ended);
  EXPECT_EQ(control.wait_for_step(1, std::chrono::hours(1)), RunControl::Wait::absent);
}

// Whatever the moment at which the waiting thread looks, it sees the step of a rank that ends right after it.
TEST(RunControl, NoStepIsMissedAtTheEnd) {
  for (int i = 0; i < 200; ++i) {
    RunControl control(1, 0, 1);
    std::thread rank([&] {
      control.finish_step(0, Time{1});
      control.end_rank(nullptr);
    });
    RunControl::Wait seen = RunControl::Wait::under_way;
    while (seen == RunControl::Wait::under_way) {
      seen = control.wait_for_step(0, kNoTime);
    }
    rank.join();
    EXPECT_EQ(seen, RunControl::Wait::ended);
  }
}

TEST(RunControl, AfterAStopOnlyBegunStepsGoOn) {
  RunControl control(2, 0, 10);
  EXPECT_TRUE(control.may_begin(0));
  EXPECT_TRUE(control.may_begin(1));
  control.stop_before(control.hold());
  EXPECT_TRUE(control.may_begin(1));  // the other rank
  EXPECT_FALSE(control.may_begin(2));
}

// Steps 0 and 1 are begun; a hold lets the other rank follow, and 2 waits for the word that all end behind it.
TEST(RunControl, AHeldStepBeginsOnceItIsAllowed) {
  RunControl control(2, 0, 10);
  EXPECT_TRUE(control.may_begin(1));
  EXPECT_EQ(control.hold(), 2);
  EXPECT_TRUE(control.may_begin(0));
  EXPECT_TRUE(control.may_begin(1));
  int last = 2;
  std::thread rank([&] {
    while (control.may_begin(last)) {
      ++last;
    }
  });
  control.stop_before(3);
  rank.join();
  EXPECT_EQ(last, 3);
}

TEST(RunControl, AFailureEndsAHold) {
  RunControl control(2, 0, 10);
  EXPECT_EQ(control.hold(), 0);
  std::thread rank([&] { EXPECT_FALSE(control.may_begin(0)); });
  control.end_rank(std::make_exception_ptr(0));
  rank.join();
}

}  // namespace
}  // namespace foretrain::exec
