// IEEE binary16. Storage only; arithmetic is done in fp32.
#pragma once

#include <bit>
#include <cstdint>

namespace foretrain::kernels {

struct Fp16 {
  std::uint16_t bits = 0;

  Fp16() = default;
  // Round to nearest, ties to even. Overflow goes to infinity; a NaN stays a (quiet) NaN. Without branches, so that
  // loops of it become vectors.
  explicit constexpr Fp16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t a = u & 0x7fffffffu;
    const std::uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    // Beside 1/2 the last bit of an fp32 is that of a subnormal fp16.
    const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;
    const std::uint32_t large = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const std::uint32_t magnitude = a >= 0x47800000u ? large : a < 0x38800000u ? subnormal : normal;
    bits = static_cast<std::uint16_t>(((u >> 16) & 0x8000u) | magnitude);
  }
  explicit constexpr operator float() const {
    // Where denormals of fp32 count as zero, those of fp16 do not.
    const std::uint32_t a = bits & 0x7fffu;
    const auto subnormal = std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(a)) * 0x1p-24f);
    const std::uint32_t normal = (a << 13) + (a >= 0x7c00u ? 0x70000000u : 0x38000000u);
    const std::uint32_t magnitude = a < 0x400u ? subnormal : normal;
    return std::bit_cast<float>(magnitude | (static_cast<std::uint32_t>(bits & 0x8000u) << 16));
  }
};

}  // namespace foretrain::kernels
