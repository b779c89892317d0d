#include "reports/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace foretrain::reports {
namespace {

TEST(Text, Percent) {
  EXPECT_EQ(percent(0), "0.0 %");
  EXPECT_EQ(percent(0.4512), "45.1 %");
  EXPECT_EQ(percent(NAN), "-");
  EXPECT_EQ(signed_percent(0.0312), "+3.1 %");
  EXPECT_EQ(signed_percent(-0.5), "-50.0 %");
  EXPECT_EQ(signed_percent(INFINITY), "-");
}

TEST(Text, Count) {
  EXPECT_EQ(count(0), "0");
  EXPECT_EQ(count(999), "999");
  EXPECT_EQ(count(1000), "1,000");
  EXPECT_EQ(count(175181291520), "175,181,291,520");
  EXPECT_EQ(count(-1234567), "-1,234,567");
  EXPECT_EQ(count(-123), "-123");
}

TEST(Text, Compact) {
  EXPECT_EQ(compact(0), "0");
  EXPECT_EQ(compact(12), "12");
  EXPECT_EQ(compact(0.5), "0.50");
  EXPECT_EQ(compact(1500), "1.50 k");
  EXPECT_EQ(compact(312e12), "312 T");
  EXPECT_EQ(compact(999.6), "1.00 k");  // three digits, not 1000
  EXPECT_EQ(compact(4.5e23), "450 Z");
  EXPECT_EQ(compact(NAN), "-");
}

TEST(Text, Seconds) {
  EXPECT_EQ(seconds_text(0), "0 s");
  EXPECT_EQ(seconds_text(1.234e-3), "1.23 ms");
  EXPECT_EQ(seconds_text(NAN), "-");
  EXPECT_EQ(seconds_text(1e300), "-");
}

TEST(Text, NumbersOfDocumentsAreNeverNan) {
  EXPECT_EQ(number(1.5).dump(), "1.5");
  EXPECT_TRUE(number(NAN).is_null());
  EXPECT_TRUE(number(-INFINITY).is_null());
}

}  // namespace
}  // namespace foretrain::reports
