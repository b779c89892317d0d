// Quantities with their unit in the type, and their text form ("450 GB/s", "1.2 us", "80 GB").
// A rate is per direction. Time is integer picoseconds: sums and comparisons are exact on every machine.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace foretrain {

// Throws InfeasibleError: a giant job on a small machine outgrows the counters, and must not wrap around.
[[noreturn]] void fail_overflow();

// A number that only mixes with its own kind. Tag makes the kinds distinct. Sums of whole numbers are checked.
template <class Tag, class Rep>
struct Quantity {
  Rep value{};

  friend constexpr auto operator<=>(Quantity, Quantity) = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    if constexpr (std::is_integral_v<Rep>) {
      Rep sum{};
      if (__builtin_add_overflow(a.value, b.value, &sum)) {
        fail_overflow();
      }
      return {sum};
    } else {
      return {a.value + b.value};
    }
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return {a.value - b.value}; }
  constexpr Quantity& operator+=(Quantity b) { return *this = *this + b; }
  constexpr Quantity& operator-=(Quantity b) {
    value -= b.value;
    return *this;
  }
};

using Time = Quantity<struct TimeTag, std::int64_t>;      // picoseconds
using Bytes = Quantity<struct BytesTag, std::int64_t>;    // bytes
using Bandwidth = Quantity<struct BandwidthTag, double>;  // bytes per second, one direction
using FlopRate = Quantity<struct FlopRateTag, double>;    // floating-point operations per second

constexpr Time picoseconds(std::int64_t n) {
  return {n};
}
constexpr double seconds(Time t) {
  return static_cast<double>(t.value) * 1e-12;
}

// The one place where a duration in seconds becomes integer time: rounded up to a picosecond.
// Requires: s >= 0. Throws InfeasibleError from 9.2e6 s (106 days) on: a giant model on a small machine gets there.
Time time_from_seconds(double s);

// Rounded up; zero for zero bytes. Requires: rate > 0.
Time transfer_time(Bytes bytes, Bandwidth rate);

// Parsers of "<number> <unit>". Throw Error that says what stood there and which units are allowed.
// Decimal prefixes k M G T P (and binary Ki Mi Gi Ti for bytes); Gb/s etc. (bits) for bandwidth;
// "ps ns us ms s min h d" for time; "FLOP/s" with prefixes for FlopRate. A missing unit, NaN, an infinity or a
// negative number is an error.
Time parse_time(std::string_view text);
Bytes parse_bytes(std::string_view text);
Bandwidth parse_bandwidth(std::string_view text);
FlopRate parse_flop_rate(std::string_view text);

// Text for people, three significant digits: "1.23 ms", "79.2 GB", "450 GB/s", "312 TFLOP/s".
std::string to_string(Time t);
std::string to_string(Bytes b);
std::string to_string(Bandwidth b);
std::string to_string(FlopRate f);

}  // namespace foretrain
