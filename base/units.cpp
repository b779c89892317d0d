#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>

#include "base/error.h"

namespace foretrain {

namespace {

struct Unit {
  std::string_view name;
  double scale;
};

constexpr std::array<Unit, 8> kTimeUnits{
    {{"ps", 1}, {"ns", 1e3}, {"us", 1e6}, {"ms", 1e9}, {"s", 1e12}, {"min", 6e13}, {"h", 3.6e15}, {"d", 8.64e16}}};
constexpr std::array<Unit, 10> kByteUnits{{{"B", 1},
                                           {"kB", 1e3},
                                           {"MB", 1e6},
                                           {"GB", 1e9},
                                           {"TB", 1e12},
                                           {"PB", 1e15},
                                           {"KiB", 0x1p10},
                                           {"MiB", 0x1p20},
                                           {"GiB", 0x1p30},
                                           {"TiB", 0x1p40}}};
constexpr std::array<Unit, 12> kBandwidthUnits{{{"B/s", 1},
                                                {"kB/s", 1e3},
                                                {"MB/s", 1e6},
                                                {"GB/s", 1e9},
                                                {"TB/s", 1e12},
                                                {"PB/s", 1e15},
                                                {"b/s", 1.0 / 8},
                                                {"kb/s", 1e3 / 8},
                                                {"Mb/s", 1e6 / 8},
                                                {"Gb/s", 1e9 / 8},
                                                {"Tb/s", 1e12 / 8},
                                                {"Pb/s", 1e15 / 8}}};
constexpr std::array<Unit, 6> kFlopUnits{
    {{"FLOP/s", 1}, {"kFLOP/s", 1e3}, {"MFLOP/s", 1e6}, {"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}}};

std::string names(std::span<const Unit> units) {
  std::string list;
  for (const Unit& unit : units) {
    list += (list.empty() ? "" : " ") + std::string(unit.name);
  }
  return list;
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 60;
  return fmt::format("\"{}{}\"", text.substr(0, kShown), text.size() > kShown ? "..." : "");
}

// "<number> <unit>" in the base unit of the table; `limit` is the largest value its type holds.
double parse(std::string_view text, std::span<const Unit> units, double limit) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !std::isfinite(number)) {
    throw InputError(
        fmt::format("{} is not a quantity; expected a number and a unit, one of: {}", quoted(text), names(units)));
  }
  if (number < 0) {
    throw InputError(fmt::format("{} is negative; expected a quantity >= 0", quoted(text)));
  }
  std::string_view unit_text(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  while (!unit_text.empty() && unit_text.front() == ' ') {
    unit_text.remove_prefix(1);
  }
  if (unit_text.empty()) {
    throw InputError(fmt::format("{} has no unit; expected a number and one of: {}", quoted(text), names(units)));
  }
  for (const Unit& unit : units) {
    if (unit.name == unit_text) {
      const double value = number * unit.scale;
      if (!(value < limit)) {
        throw InputError(fmt::format("{} is too large", quoted(text)));
      }
      return value;
    }
  }
  throw InputError(
      fmt::format("{} has the unknown unit {}; expected one of: {}", quoted(text), quoted(unit_text), names(units)));
}

constexpr double kInt64Limit = 0x1p63;

// Three significant digits of 0 <= v < 1000.
std::string three_digits(double v) {
  return fmt::format("{:.{}f}", v, v < 9.995 ? 2 : v < 99.95 ? 1 : 0);
}

// The largest unit in which the rounded number is at least 1; units ascend.
std::string print(double value, std::span<const Unit> units, double first_rounded = 0) {
  const Unit* chosen = &units.front();
  for (const Unit& unit : units) {
    // Half a unit of the third digit below 1: 999.6 kB prints as 1.00 MB, not as 1000 kB.
    if (value >= unit.scale * 0.9995) {
      chosen = &unit;
    }
  }
  const double number = value / chosen->scale;
  if (number >= 999.5) {
    return fmt::format("{:.3g} {}", number, chosen->name);
  }
  if (value == 0 || (chosen == &units.front() && value < first_rounded)) {
    return fmt::format("{:.0f} {}", number, chosen->name);
  }
  return fmt::format("{} {}", three_digits(number), chosen->name);
}

constexpr double kWholeBelow = 1000;  // counts of bytes and picoseconds below a thousand are whole numbers

}  // namespace

void fail_overflow() {
  throw InfeasibleError("a sum of times or sizes outgrows 64 bits (106 days in picoseconds, 9.2 EB)");
}

Time time_from_seconds(double s) {
  CHECK(s >= 0, "a duration of {} s", s);
  if (s >= 9.2e6) {
    throw InfeasibleError(fmt::format("a duration of {:.3g} s; times are counted up to 106 days", s));
  }
  return {static_cast<std::int64_t>(std::ceil(s * 1e12))};
}

Time transfer_time(Bytes bytes, Bandwidth rate) {
  CHECK(bytes.value >= 0 && rate.value > 0, "a transfer of {} B at {} B/s", bytes.value, rate.value);
  return time_from_seconds(static_cast<double>(bytes.value) / rate.value);
}

Time parse_time(std::string_view text) {
  return {static_cast<std::int64_t>(std::round(parse(text, kTimeUnits, kInt64Limit)))};
}

Bytes parse_bytes(std::string_view text) {
  return {static_cast<std::int64_t>(std::round(parse(text, kByteUnits, kInt64Limit)))};
}

Bandwidth parse_bandwidth(std::string_view text) {
  return {parse(text, kBandwidthUnits, std::numeric_limits<double>::infinity())};
}

FlopRate parse_flop_rate(std::string_view text) {
  return {parse(text, kFlopUnits, std::numeric_limits<double>::infinity())};
}

std::string to_string(Time t) {
  if (t.value == 0) {
    return "0 s";
  }
  const double value = static_cast<double>(t.value);
  return (value < 0 ? "-" : "") + print(std::abs(value), kTimeUnits, kWholeBelow);
}

std::string to_string(Bytes b) {
  const double value = static_cast<double>(b.value);
  return (value < 0 ? "-" : "") + print(std::abs(value), std::span(kByteUnits).first<6>(), kWholeBelow);
}

std::string to_string(Bandwidth b) {
  return print(b.value, std::span(kBandwidthUnits).first<6>());
}

std::string to_string(FlopRate f) {
  return print(f.value, kFlopUnits);
}

}  // namespace foretrain
