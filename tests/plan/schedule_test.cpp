#include "plan/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "plan/schedule_times.h"
#include "tests/support/message_of.h"

namespace foretrain::plan {
namespace {

using foretrain::test::message_of;

std::string row(const Schedule& s, std::size_t rank) {
  return to_text(Schedule{s[rank]});
}

// The message of check() for a text, origin "s".
std::string check_text(const std::string& text, int pp, int virtual_stages, int microbatches) {
  return message_of([&] { check(schedule_from_text(text, "s"), pp, virtual_stages, microbatches, "s"); });
}

// The most microbatches each rank holds.
std::vector<int> slots(const Schedule& s) {
  std::vector<int> counts;
  for (const std::vector<Action>& r : s) {
    counts.push_back(assign_copies(r).slots);
  }
  return counts;
}

std::int64_t makespan(const Schedule& s, int forward, int backward) {
  return times(s, {.forward = forward, .backward = backward}).makespan;
}

TEST(Schedule, GpipeRunsAllForwardsFirst) {
  const Schedule s = gpipe(2, 3);
  EXPECT_EQ(to_text(s), "0F0 0F1 0F2 0B0 0B1 0B2\n1F0 1F1 1F2 1B0 1B1 1B2\n");
}

// pp 3: rank 0 warms up with 2 forwards, rank 1 with 1, rank 2 with none.
TEST(Schedule, OneFOneBAlternates) {
  const Schedule s = one_f_one_b(3, 4);
  EXPECT_EQ(row(s, 0), "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3\n");
  EXPECT_EQ(row(s, 1), "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3\n");
  EXPECT_EQ(row(s, 2), "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3\n");
  EXPECT_EQ(to_text(one_f_one_b(1, 1)), "0F0 0B0\n");
  EXPECT_EQ(row(one_f_one_b(4, 1), 0), "0F0 0B0\n");
}

// F 1, B 2, a message 1. Rank 1 has one slot: what 1F1 waits for sets out when 1B0 has ended, at 5, though 0F1 ended
// at 2.
TEST(ScheduleTimes, AMessageWaitsForItsSlot) {
  const ScheduleTimes t = times(one_f_one_b(2, 2), Durations{.message = 1});
  EXPECT_EQ(t.start, (std::vector<std::vector<std::int64_t>>{{0, 1, 6, 10}, {2, 3, 6, 7}}));
  EXPECT_EQ(t.makespan, 12);
  EXPECT_EQ(room_of(one_f_one_b(2, 2)), (Room{{-1, -1, -1, -1}, {-1, -1, 1, -1}}));
}

// F 1, B 5 on rank 0 and 1 on rank 1, a message 6: 0B0 starts at 17, as 1B0 ended at 11. 0B2's gradient is there at 13,
// and sets out when 0B0 has left its ring, at 22.
TEST(ScheduleTimes, AGradientWaitsForItsRing) {
  Durations first, last;
  first.message = last.message = 6;
  first.backward = 5;
  last.backward = 1;
  EXPECT_EQ(times(gpipe(2, 3), {first, last}).start.front(), (std::vector<std::int64_t>{0, 1, 2, 17, 22, 28}));
  EXPECT_EQ(room_of(gpipe(2, 3)), (Room{{-1, -1, -1, -1, -1, 3}, {-1, -1, -1, -1, -1, 3}}));
}

// In two halves a gradient goes into the slot, which its forward has. 0I0 is done with 0F3's.
TEST(ScheduleTimes, ASplitBackwardHasRoom) {
  EXPECT_EQ(row(zb_h1(3, 4), 0), "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3\n");
  EXPECT_EQ(room_of(zb_h1(3, 4))[0], (std::vector<std::int32_t>{-1, -1, -1, -1, -1, 3, -1, -1, -1, -1, -1, -1}));
}

// pp 2, v 2, m 4: stages 0 and 2 on rank 0. Forwards of rank 0: 0F0 0F1 2F0 2F1 0F2 0F3 2F2 2F3; backwards: 2B0 2B1 0B0
// 0B1 …; warm-up 2 (2 - 0 - 1) + (2 - 1) 2 = 4 on rank 0 and 2 on rank 1.
TEST(Schedule, InterleavedFollowsMegatronsOrder) {
  const Schedule s = interleaved(2, 2, 4);
  EXPECT_EQ(row(s, 0), "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3\n");
  EXPECT_EQ(row(s, 1), "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3\n");
  // m = pp: everything is warm-up on rank 0 (2 * 1 + 2 = 4 = all forwards).
  EXPECT_EQ(row(interleaved(2, 2, 2), 0), "0F0 0F1 2F0 2F1 2B0 2B1 0B0 0B1\n");
  EXPECT_EQ(to_text(interleaved(1, 2, 2)), "0F0 1F0 1B0 0F1 0B0 1F1 1B1 0B1\n");
  EXPECT_THROW(interleaved(2, 2, 3), InternalError);
}

// The bubble is (pp - 1) (forward + backward) of one chunk for all three: of a whole rank's layers when v = 1, of a
// v-th when interleaved (Narayanan et al. 2021, section 2.2). A rank's own work is m v (forward + backward).
TEST(Schedule, LastsItsWorkAndTheBubble) {
  for (const int pp : {1, 2, 3, 4, 8}) {
    for (const int m : {pp, 2 * pp, 5 * pp}) {
      EXPECT_EQ(makespan(gpipe(pp, m), 1, 2), (m + pp - 1) * 3);
      EXPECT_EQ(makespan(one_f_one_b(pp, m), 1, 2), (m + pp - 1) * 3);
      for (const int v : {2, 3}) {
        EXPECT_EQ(makespan(interleaved(pp, v, m), 1, 2), (m * v + pp - 1) * 3);
      }
    }
  }
}

TEST(Schedule, PassesItsOwnCheckOverAGrid) {
  for (int pp = 1; pp <= 6; ++pp) {
    for (const int m : {0, 1, 2, 3, 7, 12}) {
      EXPECT_NO_THROW(check(gpipe(pp, m), pp, 1, m, "gpipe"));
      EXPECT_NO_THROW(check(one_f_one_b(pp, m), pp, 1, m, "1f1b"));
      for (int v = 1; v <= 4; ++v) {
        EXPECT_NO_THROW(check(interleaved(pp, v, m * pp), pp, v, m * pp, "interleaved"));
      }
    }
  }
}

// 1F1B: a rank holds its warm-up and one more, min(pp - rank, m); GPipe holds all.
TEST(Slots, AreAsManyAsAreInFlight) {
  for (int pp = 1; pp <= 5; ++pp) {
    for (const int m : {0, 1, 2, 9}) {
      const std::vector<int> flat = slots(one_f_one_b(pp, m)), all = slots(gpipe(pp, m));
      for (int rank = 0; rank < pp; ++rank) {
        EXPECT_EQ(flat[static_cast<std::size_t>(rank)], std::min(pp - rank, m));
        EXPECT_EQ(all[static_cast<std::size_t>(rank)], m);
      }
    }
  }
  // Interleaved: warm-up 2 (pp - rank - 1) + (v - 1) pp, and one more: pp 4, v 2 gives 11, 9, 7, 5.
  EXPECT_EQ(slots(interleaved(4, 2, 8)), (std::vector<int>{11, 9, 7, 5}));
}

TEST(Slots, GiveTheLowestFreeOne) {
  //                                        slots: 0   1   0   0   2   1   0   2
  const Schedule s = schedule_from_text("0F0 0F1 0B0 0F2 0F3 0B1 0B2 0B3", "s");
  const CopyAssignment a = assign_copies(s[0]);
  EXPECT_EQ(a.slot, (std::vector<std::int32_t>{0, 1, 0, 0, 2, 1, 0, 2}));
  EXPECT_EQ(a.slots, 3);
  EXPECT_EQ(a.hold, a.slot);
  EXPECT_EQ(a.holds, a.slots);
  EXPECT_EQ(a.ring, (std::vector<std::int32_t>{-1, -1, 0, -1, -1, 0, 0, 0}));
  EXPECT_EQ(a.rings, 1);
}

// The input gradient frees what it is the last to read; the weight gradient the rest.
TEST(Slots, AreFreedByTheInputGradientAndHoldsByTheWeightGradient) {
  const CopyAssignment a = assign_copies(schedule_from_text("0F0 0I0 0F1 0W0 0F2 0I1 0W1 0I2 0W2", "s")[0]);
  EXPECT_EQ(a.slot, (std::vector<std::int32_t>{0, 0, 0, -1, 1, 0, -1, 1, -1}));
  EXPECT_EQ(a.slots, 2);
  EXPECT_EQ(a.hold, (std::vector<std::int32_t>{0, 0, 1, 0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(a.holds, 2);
  EXPECT_EQ(a.rings, 1);
}

// From each input gradient to its weight gradient: two at once while 0W0 and 0W1 are put off.
TEST(Rings, AreHeldFromInputToWeightGradient) {
  const CopyAssignment a = assign_copies(schedule_from_text("0F0 0F1 0F2 0I0 0I1 0W0 0I2 0W1 0W2", "s")[0]);
  EXPECT_EQ(a.ring, (std::vector<std::int32_t>{-1, -1, -1, 0, 1, 0, 0, 1, 0}));
  EXPECT_EQ(a.rings, 2);
}

TEST(ScheduleText, ReadsCommasBlanksAndComments) {
  const Schedule s = schedule_from_text("# two ranks\n\n 0F0,0F1,,0B0 # first\r\n1F0\t1I0 , 12W345\n", "s");
  ASSERT_EQ(s.size(), 2u);
  EXPECT_EQ(to_text(s), "0F0 0F1 0B0\n1F0 1I0 12W345\n");
  EXPECT_EQ(s[1][2], (Action{12, ActionKind::backward_weight, 345}));
}

TEST(ScheduleText, ComesBackEqual) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 100; ++trial) {
    Schedule s(1 + random() % 5);
    for (std::vector<Action>& r : s) {
      for (std::size_t i = 1 + random() % 20; i > 0; --i) {
        r.push_back({static_cast<std::int32_t>(random() % 1000), static_cast<ActionKind>(random() % 4),
                     static_cast<std::int32_t>(random() >> 1)});
      }
    }
    EXPECT_EQ(schedule_from_text(to_text(s), "s"), s);
  }
}

TEST(ScheduleText, SaysWhereAnActionIsWrong) {
  const auto read = [](const std::string& text) { return message_of([&] { schedule_from_text(text, "zb.txt"); }); };
  const std::string allowed = " is no action; expected <virtual stage><F, B, I or W><microbatch>, such as 2F0";
  EXPECT_EQ(read("0F0 0F1\n1F0 1X1"), "zb.txt:2:5: \"1X1\"" + allowed);
  EXPECT_EQ(read("0F"), "zb.txt:1:1: \"0F\"" + allowed);
  EXPECT_EQ(read("F0"), "zb.txt:1:1: \"F0\"" + allowed);
  EXPECT_EQ(read("0"), "zb.txt:1:1: \"0\"" + allowed);
  EXPECT_EQ(read("0F0F"), "zb.txt:1:1: \"0F0F\"" + allowed);
  EXPECT_EQ(read("0F-1"), "zb.txt:1:1: \"0F-1\"" + allowed);
  EXPECT_EQ(read("-1F0"), "zb.txt:1:1: \"-1F0\"" + allowed);
  EXPECT_EQ(read("0f0"), "zb.txt:1:1: \"0f0\"" + allowed);
  EXPECT_EQ(read("99999999999F0"), "zb.txt:1:1: \"99999999999F0\"" + allowed);
  EXPECT_EQ(read(std::string("0F0 \0\x1b[31m", 10)), "zb.txt:1:5: \"??[31m\"" + allowed);
  EXPECT_EQ(read(std::string(50, 'x')), "zb.txt:1:1: \"" + std::string(40, 'x') + "…\"" + allowed);
  EXPECT_EQ(read(""), "zb.txt:1:1: no actions; expected one row of actions per pipeline rank");
  EXPECT_EQ(read("# nothing\n\n"), "zb.txt:1:1: no actions; expected one row of actions per pipeline rank");
}

TEST(ScheduleCheck, NamesTheActionThatBreaksARule) {
  EXPECT_EQ(check_text("0F0 0B0", 2, 1, 1), "s: 1 rows; expected one per pipeline rank: 2");
  EXPECT_EQ(check_text("0F0 0B0\n2F0 2B0", 2, 1, 1),
            "s: pipeline rank 1, action 1 (2F0): there is no virtual stage 2; expected 0 to 1");
  EXPECT_EQ(check_text("0F0 1F0 0B0\n1F0 1B0", 2, 1, 1),
            "s: pipeline rank 0, action 2 (1F0): this is the rank's virtual stage number 2; expected 1 on each rank");
  EXPECT_EQ(check_text("0F0 0B0\n1F0 1B0 0F0", 2, 2, 1),
            "s: pipeline rank 1, action 3 (0F0): virtual stage 0 is on rank 0; each is on one rank");
  EXPECT_EQ(check_text("0F0 0B0 0F1", 1, 1, 1),
            "s: pipeline rank 0, action 3 (0F1): there is no microbatch 1; expected 0 to 0");
  EXPECT_EQ(check_text("0F0 0F0 0B0", 1, 1, 1), "s: pipeline rank 0, action 2 (0F0): this forward stands twice");
  EXPECT_EQ(check_text("0B0 0F0", 1, 1, 1), "s: pipeline rank 0, action 1 (0B0): stands before its forward 0F0");
  EXPECT_EQ(check_text("0F0 0B0 0B0", 1, 1, 1), "s: pipeline rank 0, action 3 (0B0): this backward stands twice");
  EXPECT_EQ(check_text("0F0 0B0 0I0", 1, 1, 1), "s: pipeline rank 0, action 3 (0I0): this backward stands twice");
  EXPECT_EQ(check_text("0F0 0B0 0W0", 1, 1, 1),
            "s: pipeline rank 0, action 3 (0W0): a weight gradient needs 0I0 before it, once");
  EXPECT_EQ(check_text("0F0 0I0 0W0 0W0", 1, 1, 1),
            "s: pipeline rank 0, action 4 (0W0): a weight gradient needs 0I0 before it, once");
  EXPECT_EQ(check_text("0F0 0B0", 1, 1, 2), "s: pipeline rank 0 lacks 0F1");
  EXPECT_EQ(check_text("0F0 0F1 0B0", 1, 1, 2), "s: pipeline rank 0 lacks 0B1");
  EXPECT_EQ(check_text("0F0 0I0", 1, 1, 1), "s: pipeline rank 0 lacks 0W0");
  EXPECT_EQ(check_text("0F0 0B0", 1, 2, 1), "s: no row has virtual stage 1; expected 0 to 1");
}

TEST(ScheduleCheck, AcceptsSplitBackwards) {
  EXPECT_EQ(check_text("0F0 0F1 0I0 0I1 0W0 0W1\n1F0 1I0 1F1 1I1 1W0 1W1", 2, 1, 2), "no error");
  EXPECT_EQ(check_text("0F0 0F1 0B0 0I1 0W1\n1F0 1I0 1W0 1F1 1B1", 2, 1, 2), "no error");
}

// Rank 0 wants the gradient of microbatch 0 before it sends microbatch 1, rank 1 wants both before it sends any back.
TEST(ScheduleCheck, FindsDeadlocks) {
  EXPECT_EQ(check_text("0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1", 2, 1, 2),
            "s: pipeline rank 0, action 2 (0B0): deadlock: it waits for 1B0 of rank 1, which never comes to it");
  // One rank, two chunks: the second needs the first.
  EXPECT_EQ(check_text("1F0 0F0 1B0 0B0", 1, 2, 1),
            "s: pipeline rank 0, action 1 (1F0): deadlock: it waits for 0F0 of rank 0, which never comes to it");
}

TEST(ScheduleCheck, FindsMessagesThatCross) {
  EXPECT_EQ(check_text("0F0 0F1 0B0 0B1\n1F1 1F0 1B0 1B1", 2, 1, 2),
            "s: pipeline rank 1, action 1 (1F1): deadlock: rank 0 sends the input of 1F0 first, and messages between "
            "two ranks keep their order");
  EXPECT_EQ(check_text("0F0 0F1 0B0 0B1\n1F0 1F1 1B1 1B0", 2, 1, 2),
            "s: pipeline rank 0, action 3 (0B0): deadlock: rank 1 sends the input of 0B1 first, and messages between "
            "two ranks keep their order");
  EXPECT_EQ(check_text("0F0 0F1 0B1 0B0\n1F0 1F1 1B1 1B0", 2, 1, 2), "no error");
}

// Stages 0 and 1 on one rank: the second forward of stage 0 would overwrite what the first left for stage 1.
TEST(ScheduleCheck, FindsFullHandOvers) {
  EXPECT_EQ(check_text("0F0 0F1 1F0 1F1 1B0 0B0 1B1 0B1", 1, 2, 2),
            "s: pipeline rank 0, action 2 (0F1): stage 1 has not taken what 0F0 left; between two stages of a rank one "
            "waits at a time");
  EXPECT_EQ(check_text("0F0 1F0 0F1 1F1 1B0 1B1 0B0 0B1", 1, 2, 2),
            "s: pipeline rank 0, action 6 (1B1): stage 0 has not taken what 1B0 left; between two stages of a rank one "
            "waits at a time");
  EXPECT_EQ(check_text("0F0 1F0 0F1 1F1 1I0 0I0 1I1 1W0 1W1 0W0 0I1 0W1", 1, 2, 2), "no error");
}

// Swapping two neighbours of a legal row is refused or stays legal, and what is accepted runs to its end.
TEST(ScheduleCheck, AcceptsExactlyWhatRuns) {
  std::mt19937 random(3);
  int refused = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Schedule s = trial % 2 == 0 ? one_f_one_b(3, 4) : interleaved(2, 2, 4);
    const int pp = static_cast<int>(s.size());
    const int v = trial % 2 == 0 ? 1 : 2;
    for (std::size_t k = 0; k < 1 + random() % 3; ++k) {
      std::vector<Action>& r = s[random() % s.size()];
      const std::size_t i = random() % (r.size() - 1);
      std::swap(r[i], r[i + 1]);
    }
    if (message_of([&] { check(s, pp, v, 4, "s"); }) != "no error") {
      ++refused;
      continue;
    }
    EXPECT_GE(makespan(s, 1, 1), 4 * v * 2);
    for (const int n : slots(s)) {
      EXPECT_LE(n, 4 * v);
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, 300);
}

Strategy strategy(ScheduleKind kind, int pp, int virtual_stages) {
  Strategy s;
  s.schedule = kind;
  s.pp = pp;
  s.virtual_stages = virtual_stages;
  return s;
}

TEST(MakeSchedule, TakesTheStrategysWord) {
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::gpipe, 2, 1), 4), gpipe(2, 4));
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::one_f_one_b, 2, 1), 3), one_f_one_b(2, 3));
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::zb_h1, 2, 1), 3), zb_h1(2, 3));
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::zb_h2, 2, 1), 3), zb_h2(2, 3));
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::zb_v, 2, 2), 3), zb_v(2, 3));
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::one_f_one_b, 2, 2), 4), interleaved(2, 2, 4));
  EXPECT_EQ(make_schedule(strategy(ScheduleKind::interleaved, 2, 2), 4), interleaved(2, 2, 4));
}

TEST(MakeSchedule, RefusesWhatDoesNotFit) {
  EXPECT_EQ(message_of([] { make_schedule(strategy(ScheduleKind::gpipe, 2, 2), 4); }),
            "schedule \"gpipe\": virtual_stages is 2; expected 1, or \"interleaved\"");
  EXPECT_EQ(message_of([] { make_schedule(strategy(ScheduleKind::interleaved, 2, 2), 3); }),
            "schedule \"interleaved\": 3 microbatches; expected a multiple of pp = 2 with virtual_stages > 1");
}

TEST(MakeSchedule, ReadsAndChecksAFile) {
  const std::string path = ::testing::TempDir() + "schedule_test.txt";
  std::ofstream(path) << "0F0 0B0 0F1 0B1\n1F0 1B0 1F1 1B1\n";
  Strategy s = strategy(ScheduleKind::text, 2, 1);
  s.schedule_path = path;
  EXPECT_EQ(make_schedule(s, 2).size(), 2u);
  EXPECT_EQ(message_of([&] { make_schedule(s, 3); }), path + ": pipeline rank 0 lacks 0F2");
  s.schedule_path = path + ".absent";
  EXPECT_EQ(message_of([&] { make_schedule(s, 2); }), s.schedule_path + ": cannot be read; expected a schedule text");
  s.schedule_path = ::testing::TempDir();
  EXPECT_EQ(message_of([&] { make_schedule(s, 2); }), s.schedule_path + ": cannot be read; expected a schedule text");
}

// Two ranks, four microbatches. The last rank has one forward ahead of its first backward, the first one three.
TEST(Pairs, OneForwardOneBackward) {
  const Schedule s = one_f_one_b_in_pairs(2, 4);
  check(s, 2, 1, 4, "pairs");
  EXPECT_EQ(to_text(s),
            "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3\n"
            "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3\n");
  const std::vector<std::vector<bool>> p = pairs(s, 2);
  EXPECT_EQ(p[0], (std::vector<bool>{0, 0, 0, 1, 0, 0, 0, 0}));  // 0F3 with 0B0
  EXPECT_EQ(p[1], (std::vector<bool>{0, 1, 0, 1, 0, 1, 0, 0}));
}

// Plain 1F1B: on the last rank a forward's backward is its own. On the first, 0F1 with 0B0 would wait for itself: 1B0
// needs 1F0 only, and is there.
TEST(Pairs, AMicrobatchIsNotBesideItself) {
  const std::vector<std::vector<bool>> p = pairs(one_f_one_b(2, 2), 2);
  EXPECT_EQ(p[0], (std::vector<bool>{0, 1, 0, 0}));
  EXPECT_EQ(p[1], (std::vector<bool>{0, 0, 0, 0}));
}

// A pair that waits for what its own forward leads to runs apart: 0F1 0B1 on one rank, with 1F1 and 1B1 between them.
TEST(Pairs, OneThatWaitsForItselfRunsApart) {
  const Schedule s = schedule_from_text("0F0,0F1,0B1,0B0\n1F0,1F1,1B1,1B0\n", "text");
  const std::vector<std::vector<bool>> p = pairs(s, 2);
  EXPECT_EQ(p[0], (std::vector<bool>{0, 0, 0, 0}));
  const Schedule crossed = schedule_from_text("0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n", "text");
  EXPECT_EQ(pairs(crossed, 2)[0], (std::vector<bool>{0, 0, 0, 0}));
  EXPECT_EQ(pairs(crossed, 2)[1], (std::vector<bool>{0, 1, 0, 0}));
}

// Every schedule in pairs goes on to its end, whatever the sizes; in the steady middle every rank has one.
TEST(Pairs, NoneWaitsForEver) {
  for (const int pp : {1, 2, 3, 4, 8}) {
    for (const int m : {1, 2, pp, 2 * pp, 4 * pp}) {
      const Schedule plain = one_f_one_b_in_pairs(pp, m);
      check(plain, pp, 1, m, "1f1b");
      pairs(plain, pp);
      if (pp > 1) {
        const Schedule v = dualpipe_v(pp, m);
        pairs(v, 2 * pp);
      }
      if (pp > 1 && m % pp == 0) {
        const Schedule s = interleaved_in_pairs(pp, 2, m);
        check(s, pp, 2, m, "interleaved");
        const std::vector<std::vector<bool>> p = pairs(s, 2 * pp);
        // 2 m forwards, of which the warm-up's have no backward behind them.
        const int warm_up = std::min(2 * (pp - 1) + pp + 1, 2 * m);
        EXPECT_EQ(std::count(p[0].begin(), p[0].end(), true), 2 * m - warm_up) << pp << " " << m;
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
