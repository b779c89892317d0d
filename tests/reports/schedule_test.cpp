#include "reports/schedule.h"

#include <gtest/gtest.h>

namespace foretrain::reports {
namespace {

TEST(SchedulePicture, IsAScheduleText) {
  for (const plan::Schedule& s :
       {plan::gpipe(3, 4), plan::interleaved(2, 2, 4), plan::zb_h1(1, 1), plan::zb_v(2, 30)}) {
    EXPECT_EQ(plan::schedule_from_text(to_text("s", s), "s"), s);
  }
}

// B of microbatch 0 begins on rank 1 after its forward, at 2, and lasts two units.
TEST(SchedulePicture, ShowsAUnitPerCell) {
  EXPECT_EQ(to_text("1f1b", plan::one_f_one_b(2, 1)),
            "# schedule 1f1b: 2 pipeline ranks, 1 microbatch; F, I, W last 1, B 2\n"
            "# unit    0              5\n"
            "# rank 0  F0 .  .  .  B0---\n"
            "# rank 1  .  F0 B0--- .  .\n"
            "# rank 0  idle 3 of 6 units (50.0 %), 3 of them between its first and last action; holds 1 forwards\n"
            "# rank 1  idle 3 of 6 units (50.0 %), 0 of them between its first and last action; holds 1 forwards\n"
            "0F0 0B0\n"
            "1F0 1B0\n");
}

// 12 microbatches on one rank: 36 units of cells of four columns; 120 columns hold 30 cells.
TEST(SchedulePicture, GoesOnBelow) {
  const std::string text = to_text("1f1b", plan::one_f_one_b(1, 12));
  EXPECT_NE(text.find("# unit    30                  35\n# rank 0  F10 B10---- F11 B11----\n"), std::string::npos)
      << text;
}

TEST(SchedulePicture, OfNothing) {
  EXPECT_EQ(to_text("gpipe", plan::gpipe(1, 0)),
            "# schedule gpipe: 1 pipeline rank, 0 microbatches; F, I, W last 1, B 2\n"
            "# rank 0  idle 0 of 0 units (-), 0 of them between its first and last action; holds 0 forwards\n"
            "\n");
}

}  // namespace
}  // namespace foretrain::reports
