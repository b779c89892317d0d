// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011): 128 random bits as a pure function of a 64-bit key and a 128-bit counter.
#pragma once

#include <array>
#include <cstdint>

namespace foretrain::kernels {

constexpr std::array<std::uint32_t, 4> philox4x32(std::uint64_t key, std::uint64_t counter_low,
                                                  std::uint64_t counter_high) {
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  std::array<std::uint32_t, 4> x = {
      static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
      static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * x[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * x[2];
    x = {static_cast<std::uint32_t>(p1 >> 32) ^ x[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ x[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return x;
}

struct UniformPair {
  double first, second;  // in [0, 1), multiples of 2^-52
};

constexpr UniformPair philox_uniform(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
  const std::array<std::uint32_t, 4> x = philox4x32(key, counter_low, counter_high);
  const std::uint64_t first = (std::uint64_t{x[1]} << 32 | x[0]) >> 12;
  const std::uint64_t second = (std::uint64_t{x[3]} << 32 | x[2]) >> 12;
  return {static_cast<double>(first) * 0x1p-52, static_cast<double>(second) * 0x1p-52};
}

}  // namespace foretrain::kernels
