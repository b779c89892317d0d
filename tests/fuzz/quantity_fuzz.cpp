// Quantities with units. What parses must be finite, not negative, and come back within its printed digits (three from
// one unit up; a fraction of a byte per second is printed as 0.12).
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/units.h"

namespace {

template <class Parse>
void try_parse(Parse parse, std::string_view text) {
  try {
    const auto first = parse(text);
    const auto again = parse(foretrain::to_string(first));
    const auto a = static_cast<double>(first.value);
    const auto b = static_cast<double>(again.value);
    CHECK(std::isfinite(a) && a >= 0 && std::abs(a - b) <= (a < 1 ? 0.01 : 0.01 * a), "{} came back as {}", a, b);
  } catch (const foretrain::InputError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_parse(foretrain::parse_time, text);
  try_parse(foretrain::parse_bytes, text);
  try_parse(foretrain::parse_bandwidth, text);
  try_parse(foretrain::parse_flop_rate, text);
  return 0;
}
