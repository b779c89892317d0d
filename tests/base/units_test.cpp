#include "base/units.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/message_of.h"

namespace foretrain {
namespace {

using test::message_of;

TEST(Units, ParsesEveryUnit) {
  EXPECT_EQ(parse_time("1 ps").value, 1);
  EXPECT_EQ(parse_time("1 ns").value, 1'000);
  EXPECT_EQ(parse_time("1.2 us").value, 1'200'000);
  EXPECT_EQ(parse_time("1.1 us").value, 1'100'000);  // 1.1e6 is 1100000.0000000002 in doubles: rounded, not raised
  EXPECT_EQ(parse_time("2 ms").value, 2'000'000'000);
  EXPECT_EQ(parse_time("0.5 s").value, 500'000'000'000);
  EXPECT_EQ(parse_time("1 min").value, 60'000'000'000'000);
  EXPECT_EQ(parse_time("1 h").value, 3'600'000'000'000'000);
  EXPECT_EQ(parse_time("1 d").value, 86'400'000'000'000'000);
  EXPECT_EQ(parse_bytes("80 GB").value, 80'000'000'000);
  EXPECT_EQ(parse_bytes("80GB").value, 80'000'000'000);
  EXPECT_EQ(parse_bytes("1.5 KiB").value, 1536);
  EXPECT_EQ(parse_bytes("2 GiB").value, 2'147'483'648);
  EXPECT_EQ(parse_bytes("0 B").value, 0);
  EXPECT_DOUBLE_EQ(parse_bandwidth("450 GB/s").value, 450e9);
  EXPECT_DOUBLE_EQ(parse_bandwidth("200 Gb/s").value, 25e9);  // bits: an eighth
  EXPECT_DOUBLE_EQ(parse_flop_rate("312 TFLOP/s").value, 312e12);
  EXPECT_DOUBLE_EQ(parse_flop_rate("1.5e3 GFLOP/s").value, 1.5e12);
}

TEST(Units, RefusesWithWhatStoodThereAndWhatIsAllowed) {
  EXPECT_EQ(message_of([] { parse_bytes("80"); }),
            "\"80\" has no unit; expected a number and one of: B kB MB GB TB PB KiB MiB GiB TiB");
  EXPECT_EQ(message_of([] { parse_time("3 minutes"); }),
            "\"3 minutes\" has the unknown unit \"minutes\"; expected one of: ps ns us ms s min h d");
  EXPECT_EQ(message_of([] { parse_bandwidth("-1 GB/s"); }), "\"-1 GB/s\" is negative; expected a quantity >= 0");
  EXPECT_EQ(message_of([] { parse_bytes("10000 PB"); }), "\"10000 PB\" is too large");  // 1e19 > 2^63
  EXPECT_EQ(message_of([] { parse_time("200 d"); }), "\"200 d\" is too large");         // 1.7e19 ps
  EXPECT_EQ(
      message_of([] { parse_flop_rate("TFLOP/s"); }),
      "\"TFLOP/s\" is not a quantity; expected a number and a unit, one of: FLOP/s kFLOP/s MFLOP/s GFLOP/s TFLOP/s "
      "PFLOP/s");
  for (const char* bad : {"", " ", "nan GB", "inf GB", "1e999 GB", "GB", "0x10 GB", "1 GB extra", "1 gb", "1,5 GB"}) {
    EXPECT_THROW(parse_bytes(bad), InputError) << bad;
  }
}

TEST(Units, PrintsThreeSignificantDigits) {
  EXPECT_EQ(to_string(Time{1'234'567'890}), "1.23 ms");
  EXPECT_EQ(to_string(Time{0}), "0 s");
  EXPECT_EQ(to_string(Time{512}), "512 ps");
  EXPECT_EQ(to_string(Time{-1'500'000}), "-1.50 us");
  EXPECT_EQ(to_string(Time{90'000'000'000'000}), "1.50 min");
  EXPECT_EQ(to_string(Bytes{79'200'000'000}), "79.2 GB");
  EXPECT_EQ(to_string(Bytes{7}), "7 B");
  EXPECT_EQ(to_string(Bytes{999'499}), "999 kB");
  EXPECT_EQ(to_string(Bytes{999'600}), "1.00 MB");  // rounding carries into the next prefix
  EXPECT_EQ(to_string(Bytes{9'996}), "10.0 kB");
  EXPECT_EQ(to_string(Bandwidth{450e9}), "450 GB/s");
  EXPECT_EQ(to_string(FlopRate{312e12}), "312 TFLOP/s");
  EXPECT_EQ(to_string(FlopRate{5e18}), "5e+03 PFLOP/s");
}

TEST(Units, WhatIsPrintedParsesBackWithinItsDigits) {
  for (std::int64_t v = 1; v < 4'000'000'000'000'000'000 / 7; v *= 7) {
    const double value = static_cast<double>(v);
    EXPECT_NEAR(static_cast<double>(parse_time(to_string(Time{v})).value), value, 0.005 * value + 1) << v;
    EXPECT_NEAR(static_cast<double>(parse_bytes(to_string(Bytes{v})).value), value, 0.005 * value + 1) << v;
    EXPECT_NEAR(parse_bandwidth(to_string(Bandwidth{value})).value, value, 0.005 * value + 1) << v;
  }
}

TEST(Units, DurationsRoundUpOnce) {
  EXPECT_EQ(time_from_seconds(0).value, 0);
  EXPECT_EQ(time_from_seconds(1e-12).value, 1);
  EXPECT_EQ(time_from_seconds(1.5e-12).value, 2);
  EXPECT_EQ(transfer_time(Bytes{450'000'000'000}, Bandwidth{450e9}).value, 1'000'000'000'000);
  EXPECT_EQ(transfer_time(Bytes{0}, Bandwidth{1}).value, 0);
  EXPECT_EQ(transfer_time(Bytes{1}, Bandwidth{3e12}).value, 1);  // a third of a picosecond
}

TEST(Units, DurationsBeyondTheCounterAreInfeasible) {
  EXPECT_THROW(time_from_seconds(9.2e6), InfeasibleError);
  EXPECT_THROW(transfer_time(Bytes{1'000'000'000}, Bandwidth{1}), InfeasibleError);  // 31 years
  EXPECT_GT(time_from_seconds(9.1e6).value, 0);
}

TEST(Units, SumsDoNotWrapAround) {
  const Time most{std::numeric_limits<std::int64_t>::max()};
  EXPECT_THROW(most + Time{1}, InfeasibleError);
  Time sum = most;
  EXPECT_THROW(sum += Time{1}, InfeasibleError);
  EXPECT_EQ(sum, most);
  EXPECT_EQ((Time{2} + Time{3}).value, 5);
  EXPECT_EQ((Time{2} - Time{3}).value, -1);
  EXPECT_THROW(Bytes{INT64_MAX} + Bytes{1}, InfeasibleError);
  EXPECT_EQ((Bandwidth{1.5} + Bandwidth{2}).value, 3.5);
}

TEST(Units, ImpossibleDurationsAreOurOwnMistakes) {
  EXPECT_THROW(time_from_seconds(-1), InternalError);
  EXPECT_THROW(time_from_seconds(std::numeric_limits<double>::quiet_NaN()), InternalError);
  EXPECT_THROW(transfer_time(Bytes{1}, Bandwidth{0}), InternalError);
}

}  // namespace
}  // namespace foretrain
