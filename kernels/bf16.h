// bfloat16: the upper half of an IEEE binary32. Storage only; arithmetic is done in fp32.
#pragma once

#include <bit>
#include <cstdint>

namespace foretrain::kernels {

struct Bf16 {
  std::uint16_t bits = 0;

  Bf16() = default;
  // Round to nearest, ties to even. Overflow goes to infinity; a NaN stays a (quiet) NaN.
  explicit constexpr Bf16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(is_nan ? ((u >> 16) | 0x40u) : rounded);
  }
  explicit constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

}  // namespace foretrain::kernels
