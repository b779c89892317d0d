// Element types of buffers and of arithmetic.
#pragma once

#include <cstdint>
#include <string_view>

namespace foretrain {

// fp8, mxfp8 and nvfp4 exist in the cost model only; tf32 is stored as fp32.
enum class Dtype : std::uint8_t { fp64, fp32, tf32, fp16, bf16, fp8, mxfp8, nvfp4, i32, i64, u8 };

// Bits of one stored element (nvfp4 is 4; scales of the micro-scaled formats are not counted).
constexpr int bits(Dtype d) {
  switch (d) {
    case Dtype::fp64:
    case Dtype::i64: return 64;
    case Dtype::fp32:
    case Dtype::tf32:
    case Dtype::i32: return 32;
    case Dtype::fp16:
    case Dtype::bf16: return 16;
    case Dtype::fp8:
    case Dtype::mxfp8:
    case Dtype::u8: return 8;
    case Dtype::nvfp4: return 4;
  }
  return 0;
}

// Bytes of n elements, rounded up.
constexpr std::int64_t size_bytes(Dtype d, std::int64_t n) {
  return (n * bits(d) + 7) / 8;
}

// "fp64" … "u8".
std::string_view name(Dtype d);

}  // namespace foretrain
