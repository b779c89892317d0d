// Bubbles and activations in flight of the zero-bubble schedules, derived by hand.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "plan/schedule.h"
#include "plan/schedule_times.h"

namespace foretrain::plan {
namespace {

std::string row(const Schedule& s, std::size_t rank) {
  return to_text(Schedule{s[rank]});
}

std::vector<std::int64_t> every(int pp, int value) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(pp), value);
}

// pp 3, m 4: rank 1 warms up with one forward and puts weight gradients off by one.
TEST(ZeroBubble, ZeroBubbleOne) {
  const Schedule s = zb_h1(3, 4);
  EXPECT_EQ(row(s, 0), "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3\n");
  EXPECT_EQ(row(s, 1), "1F0 1F1 1I0 1F2 1I1 1W0 1F3 1I2 1W1 1I3 1W2 1W3\n");
  EXPECT_EQ(row(s, 2), "2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2W2 2W3\n");
  EXPECT_EQ(to_text(zb_h1(1, 2)), "0F0 0I0 0W0 0F1 0I1 0W1\n");
}

// pp 2, m 4: rank 0 warms up with 2 (pp - 1) = 2, one more than 1F1B, rank 1 puts weight gradients off by 2.
TEST(ZeroBubble, ZeroBubbleTwo) {
  const Schedule s = zb_h2(2, 4);
  EXPECT_EQ(row(s, 0), "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3\n");
  EXPECT_EQ(row(s, 1), "1F0 1I0 1F1 1I1 1F2 1I2 1W0 1F3 1I3 1W1 1W2 1W3\n");
}

// F = I = W = 1 and m >= pp. H1: rank 0 runs pp forwards, and then waits for the first microbatch to come back: it
// leaves rank 0 at 1 and returns after pp - 1 more forwards and pp - 1 input gradients, and one on the last rank, at 2
// pp - 1; rank 0 is busy until pp and idle for pp - 1 = (pp - 1) (F + I - W). Nothing is late after that. 1F1B, with B
// = I + W, is idle for (pp - 1) (F + I + W).
TEST(ZeroBubble, ZeroBubbleOneLeavesAThirdOfTheBubble) {
  for (const int pp : {1, 2, 3, 4, 8}) {
    for (const int m : {pp, 2 * pp - 1, 5 * pp}) {
      const ScheduleTimes t = times(zb_h1(pp, m));
      EXPECT_EQ(t.makespan, 3 * m + (pp - 1)) << pp << " " << m;
      EXPECT_EQ(t.waits.front(), pp - 1);
      EXPECT_EQ(times(one_f_one_b(pp, m)).makespan, 3 * m + 3 * (pp - 1));
    }
  }
}

// H2 with m >= 2 pp - 1: rank 0 has 2 pp - 1 forwards to run until its first microbatch is back, at 2 pp - 1. No rank
// is idle between its first action and its last; what remains is that rank r starts r later than rank 0.
TEST(ZeroBubble, ZeroBubbleTwoIsNeverIdle) {
  for (const int pp : {1, 2, 3, 4, 8}) {
    for (const int m : {2 * pp - 1, 2 * pp, 5 * pp}) {
      const ScheduleTimes t = times(zb_h2(pp, m));
      EXPECT_EQ(t.waits, every(pp, 0)) << pp << " " << m;
      EXPECT_EQ(t.makespan, 3 * m + (pp - 1));
    }
  }
}

// pp 2, m 3 (= 2 pp - 1): rank 0 warms up with 2 pp - 1 = 3 forwards down and then has no more of them; rank 1, where
// the V turns, warms up with one, and pairs.
TEST(ZeroBubble, V) {
  const Schedule s = zb_v(2, 3);
  EXPECT_EQ(row(s, 0), "0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0I0 0W0 3F2 3I2 3W2 0I1 0W1 0I2 0W2\n");
  EXPECT_EQ(row(s, 1), "1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1I1 2I2 1I2 1W1 2W2 1W2\n");
  EXPECT_EQ(placement(s, 4), (std::vector<std::int32_t>{0, 1, 1, 0}));
}

TEST(ZeroBubble, VIsNeverIdle) {
  for (const int pp : {1, 2, 3, 4, 8}) {
    for (const int m : {2 * pp - 1, 2 * pp, 5 * pp}) {
      const ScheduleTimes t = times(zb_v(pp, m));
      EXPECT_EQ(t.waits, every(pp, 0)) << pp << " " << m;
      EXPECT_EQ(t.makespan, 6 * m + (pp - 1));
    }
  }
}

// pp 2, m 4 (= 2 pp). Rank 0: two forwards down, one pair, one gap filled with a weight gradient, one round of the
// middle, then what is left of the backwards. Rank 1, where the V turns: two pairs, two rounds, and at the end the
// weight gradients of the last two backwards.
TEST(DualPipe, V) {
  const Schedule s = dualpipe_v(2, 4);
  EXPECT_EQ(row(s, 0), "0F0 0F1 0F2 3F0 3I0 3W0 3F1 0F3 3B1 3F2 0B0 3B2 3F3 0B1 3B3 0I2 0W2 0I3 0W3\n");
  EXPECT_EQ(row(s, 1), "1F0 2F0 1F1 2F1 1F2 2B0 2F2 1B0 1F3 2B1 2F3 1B1 2B2 1B2 2I3 1I3 2W3 1W3\n");
  EXPECT_EQ(placement(s, 4), (std::vector<std::int32_t>{0, 1, 1, 0}));
}

// With F, I and W equally long and m >= 2 pp: the last rank begins when the first microbatch reaches it, pp - 1 units
// in, and has no gap from then on. (The authors count (pp - 1) (F&B + B - 3 W), twice as much: there a forward and the
// backward beside it are one piece F&B that neither side sends from before its end.) At most 2 pp + 1 half-size
// activations are held, theirs too.
TEST(DualPipe, BubbleAndActivations) {
  for (const int pp : {1, 2, 3, 4, 8}) {
    for (const int m : {2 * pp, 2 * pp + 1, 5 * pp}) {
      const Schedule s = dualpipe_v(pp, m);
      const ScheduleTimes t = times(s);
      EXPECT_EQ(t.makespan, 6 * m + (pp - 1)) << pp << " " << m;
      EXPECT_EQ(t.waits.back(), 0);
      for (const std::vector<Action>& actions : s) {
        EXPECT_LE(assign_copies(actions).holds, 2 * pp + 1);
      }
    }
  }
}

// Two ranks, eight microbatches: either end takes four. Rank 1 does on stages 2 and 1, with microbatches 4 to 7 and 0
// to 3, what rank 0 does on 0 and 3, with 0 to 3 and 4 to 7.
TEST(DualPipe, TwoCopies) {
  const Schedule s = dualpipe(2, 8);
  EXPECT_EQ(row(s, 0), "0F0 3F4 0F1 3B4 3F5 0B0 0F2 3B5 3F6 0B1 0F3 3B6 3F7 0B2 3B7 0I3 0W3\n");
  EXPECT_EQ(row(s, 1), "2F4 1F0 2F5 1B0 1F1 2B4 2F6 1B1 1F2 2B5 2F7 1B2 1F3 2B6 1B3 2I7 2W7\n");
  EXPECT_EQ(placement(s, 4), (std::vector<std::int32_t>{0, 1, 1, 0}));
}

// As the V of half as many ranks, of which either half of these is one: with F, I and W equally long and m >= 2 pp each
// rank is idle for pp / 2 - 1 units, half of the authors' (pp/2 - 1)(F&B + B - 3W) = 2 (pp/2 - 1), for the reason
// above, and holds at most pp + 1 activations of a whole stage, as theirs.
TEST(DualPipe, BubbleAndActivationsOfTwoCopies) {
  for (const int pp : {2, 4, 6, 12}) {
    for (const int m : {2 * pp, 2 * pp + 2, 5 * pp}) {
      const Schedule s = dualpipe(pp, m);
      EXPECT_EQ(times(s, Durations{}, 2).makespan, 3 * m + (pp / 2 - 1)) << pp << " " << m;
      for (const std::vector<Action>& actions : s) {
        EXPECT_EQ(assign_copies(actions).holds, pp + 1);
      }
    }
  }
}

TEST(DualPipe, EitherHalfGoesItsOwnWay) {
  for (int pp = 2; pp <= 8; pp += 2) {
    for (const int m : {0, 2, 4, 6, 14}) {
      EXPECT_NO_THROW(check(dualpipe(pp, m), pp, 2, m, "dualpipe", 2));
    }
  }
  const auto message = [](const std::string& text) {
    try {
      check(schedule_from_text(text, "s"), 2, 2, 2, "s", 2);
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(message("0F0 3F1 3B1 0B0\n2F1 1F0 1B0 2B1"), "");
  EXPECT_EQ(message("0F1 3F1 3B1 0B0\n2F1 1F0 1B0 2B1"),
            "s: pipeline rank 0, action 1 (0F1): microbatch 1 goes the other way, not through stage 0");
  EXPECT_EQ(message("0F0 0B0\n2F1 1F0 1B0 2B1"), "s: no row has virtual stage 3; expected 0 to 3");
}

TEST(ZeroBubble, PassesItsOwnCheckOverAGrid) {
  for (int pp = 1; pp <= 6; ++pp) {
    for (const int m : {0, 1, 2, 3, 7, 12}) {
      EXPECT_NO_THROW(check(zb_h1(pp, m), pp, 1, m, "zb_h1"));
      EXPECT_NO_THROW(check(zb_h2(pp, m), pp, 1, m, "zb_h2"));
      EXPECT_NO_THROW(check(zb_v(pp, m), pp, 2, m, "zb_v"));
      EXPECT_NO_THROW(check(dualpipe_v(pp, m), pp, 2, m, "dualpipe_v"));
    }
  }
}

// H1: a rank warms up with pp - 1 - rank forwards, and one at hand: slots as 1F1B. It puts off `rank` weight gradients,
// and has one at hand: rings. Until then it holds pp microbatches, on every rank as many as 1F1B on the first. H2:
// twice as many ahead and put off, so it holds 2 pp - 1.
TEST(ZeroBubble, CopiesOfH1AndH2) {
  for (int pp = 1; pp <= 5; ++pp) {
    for (const int m : {1, 2, 9, 20}) {
      for (int rank = 0; rank < pp; ++rank) {
        const auto r = static_cast<std::size_t>(rank);
        const CopyAssignment h1 = assign_copies(zb_h1(pp, m)[r]), h2 = assign_copies(zb_h2(pp, m)[r]);
        EXPECT_EQ(h1.slots, std::min(pp - rank, m));
        EXPECT_EQ(h1.holds, std::min(pp, m));
        EXPECT_EQ(h1.rings, std::min(rank + 1, m));
        EXPECT_EQ(h2.slots, std::min(2 * (pp - rank) - 1, m));
        EXPECT_EQ(h2.holds, std::min(2 * pp - 1, m));
        EXPECT_EQ(h2.rings, std::min(2 * rank + 1, m));
      }
    }
  }
}

// V: a rank warms up with 2 (pp - rank) - 1 + 2 rank = 2 pp - 1 forwards, and runs one more before its first input
// gradient; from there on each forward follows a weight gradient. Put off at the end: `rank` of each stage, and the one
// at hand.
TEST(ZeroBubble, CopiesOfTheV) {
  for (int pp = 1; pp <= 5; ++pp) {
    for (const int m : {2 * pp - 1, 2 * pp, 20}) {
      for (int rank = 0; rank < pp; ++rank) {
        const CopyAssignment v = assign_copies(zb_v(pp, m)[static_cast<std::size_t>(rank)]);
        EXPECT_EQ(v.slots, 2 * pp) << pp << " " << m;
        EXPECT_EQ(v.holds, 2 * pp);
        EXPECT_EQ(v.rings, 2 * rank + 1);
      }
    }
    for (int m = 0; m < 2 * pp - 1; ++m) {
      for (const std::vector<Action>& actions : zb_v(pp, m)) {
        EXPECT_LE(assign_copies(actions).holds, 2 * m);
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
