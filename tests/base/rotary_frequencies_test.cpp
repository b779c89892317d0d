#include "base/rotary_frequencies.h"

#include <gtest/gtest.h>

#include <numbers>

namespace foretrain {
namespace {

TEST(RotaryFrequencies, AreWhatTheyAreWithoutAFactor) {
  EXPECT_EQ(RotaryFrequencies(500000.0).scaled(0.3), 0.3);
}

// Llama 3.1: factor 8, 8192 positions. A pair of w turns in 8192 positions has f = 2 pi w / 8192. Up to one turn: f
// / 8. From four turns on: f. At 2.5 half of the way: f (0.5 / 8 + 0.5) = 0.5625 f.
TEST(RotaryFrequencies, OfSlowPairsAreDividedByTheFactor) {
  RotaryFrequencies f(500000.0);
  f.factor = 8.0;
  const auto share = [&](double turns) {
    const double plain = 2 * std::numbers::pi * turns / 8192;
    return f.scaled(plain) / plain;
  };
  EXPECT_DOUBLE_EQ(share(0.25), 0.125);
  EXPECT_NEAR(share(1.0), 0.125, 1e-14);
  EXPECT_NEAR(share(2.5), 0.5625, 1e-14);
  EXPECT_NEAR(share(4.0), 1.0, 1e-14);
  EXPECT_DOUBLE_EQ(share(100.0), 1.0);
}

}  // namespace
}  // namespace foretrain
