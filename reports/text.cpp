#include "reports/text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

namespace foretrain::reports {

std::string percent(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:.1f} %", 100 * fraction) : "-";
}

std::string signed_percent(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:+.1f} %", 100 * fraction) : "-";
}

std::string count(std::int64_t n) {
  std::string digits = fmt::format("{}", n);
  const std::size_t first = n < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string compact(double value) {
  if (!std::isfinite(value)) {
    return "-";
  }
  constexpr std::array<const char*, 8> kPrefixes{"", " k", " M", " G", " T", " P", " E", " Z"};
  std::size_t prefix = 0;
  while (std::abs(value) >= 999.5 && prefix + 1 < kPrefixes.size()) {
    value /= 1000;
    ++prefix;
  }
  const double size = std::abs(value);
  const int decimals = prefix == 0 && value == std::floor(value) ? 0 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", value, decimals, kPrefixes[prefix]);
}

std::string seconds_text(double seconds) {
  constexpr double kLongest = 9e6;  // what Time holds
  if (!std::isfinite(seconds) || std::abs(seconds) > kLongest) {
    return "-";
  }
  return to_string(Time{std::llround(seconds * 1e12)});
}

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

}  // namespace foretrain::reports
