// Stochastic rounding to bf16: up or down, each with the probability that keeps the mean. The random bits are Philox's
// of seed, step, tensor and index in the whole tensor, so that ranks that share a tensor out, and all devices, draw the
// same.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/philox.h"

namespace foretrain::kernels {

// Where a range of a part of a tensor lies in the whole: element i in row row_offset + (first + i) / cols, column
// col_offset + (first + i) % cols.
struct TensorPart {
  std::int64_t first = 0, cols = 1;
  std::int64_t row_offset = 0, col_offset = 0, global_cols = 1;

  constexpr std::int64_t index(std::int64_t row, std::int64_t col) const {
    return (row_offset + row) * global_cols + col_offset + col;
  }
};

// Whose bits a range of a tensor is rounded by.
struct Rounding {
  std::uint64_t seed = 0, tensor = 0;
  TensorPart part;
};

// Bits of the eight elements whose index in the whole tensor is 8 * block and on. REQUIRES: step and tensor < 2^32.
constexpr std::array<std::uint32_t, 4> rounding_words(const Rounding& r, std::int64_t step, std::int64_t block) {
  return philox4x32(r.seed, static_cast<std::uint64_t>(block), static_cast<std::uint64_t>(step) << 32 | r.tensor);
}

// An element's 16 of them. Written out: an array indexed at run time would lie in a GPU's local memory.
constexpr std::uint32_t rounding_bits(const std::array<std::uint32_t, 4>& words, std::int64_t index) {
  const std::uint32_t low = (index & 2) != 0 ? words[1] : words[0], high = (index & 2) != 0 ? words[3] : words[2];
  const std::uint32_t word = (index & 4) != 0 ? high : low;
  return (index & 1) != 0 ? word >> 16 : word & 0xffffu;
}

// `bits` < 2^16. What bf16 holds stays; a NaN stays one.
constexpr Bf16 rounded(float x, std::uint32_t bits) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  Bf16 result(x);
  if ((u & 0x7fffffffu) <= 0x7f800000u) {
    result.bits = static_cast<std::uint16_t>((u + bits) >> 16);
  }
  return result;
}

// Elements begin, begin + 1, … of a range, n of them, rounded.
void store_rounded(const Rounding& rounding, std::int64_t step, std::int64_t begin, std::int64_t n, const float* x,
                   Bf16* out);

}  // namespace foretrain::kernels
