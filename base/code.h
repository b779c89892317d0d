// How values are coded in fewer bytes before they are sent.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/dtype.h"

namespace foretrain {

enum class Coding : std::uint8_t { int8, top_k };
std::string_view name(Coding c);

// The code of `elements` values, computed in `dtype` (fp32 or fp64). One array behind the other:
//   int8:  scale[blocks] in dtype, the largest magnitude of 256 values / 127; int8[elements], multiples of the scale to
//          the nearest even. A block with a NaN is NaN.
//   top_k: the `kept` values of largest magnitude, in dtype, of equal ones the first; u32[kept], where they stood.
//          Those above the smallest that is kept come first, then its equals, each in their order. NaN is the largest.
struct Code {
  Coding kind{};
  std::int64_t elements = 0, kept = 0;  // kept: of top_k
  Dtype dtype = Dtype::fp32;

  static constexpr std::int64_t kBlock = 256;
  constexpr std::int64_t blocks() const { return (elements + kBlock - 1) / kBlock; }
  // A multiple of 16, so that codes may stand one behind the other.
  constexpr std::int64_t bytes() const {
    const std::int64_t wide = size_bytes(dtype, 1);
    const std::int64_t all = kind == Coding::int8 ? blocks() * wide + elements : kept * (wide + 4);
    return (all + 15) / 16 * 16;
  }
  friend bool operator==(const Code&, const Code&) = default;
};

}  // namespace foretrain
