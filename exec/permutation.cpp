#include "exec/permutation.h"

#include "base/error.h"

namespace foretrain::exec {

namespace {

// Bits of half a word: of the smallest even number of bits that holds the size.
int half_of(std::int64_t size) {
  int half = 1;
  while (half < 31 && (std::int64_t{1} << (2 * half)) < size) {
    ++half;
  }
  return half;
}

std::uint64_t round_value(std::uint64_t key, std::uint64_t round, std::uint64_t right) {
  return mix(key ^ mix(round << 32 | right));
}

// A Feistel network over words of two halves, walked until it lands inside (Black and Rogaway, "Ciphers with arbitrary
// finite domains", CT-RSA 2002): no table, so any rank may ask for any element. Up to four times, in the mean, where
// the size is little more than a power of four. value(round, right): of any bits.
template <class Value>
std::int64_t walk(std::int64_t index, std::int64_t size, int half, const Value& value) {
  CHECK(0 <= index && index < size, "element {} of {}", index, size);
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  auto x = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = x >> half, right = x & mask;
    for (std::uint64_t round = 0; round < Permutation::kRounds; ++round) {
      const std::uint64_t next = left ^ (value(round, right) & mask);
      left = right;
      right = next;
    }
    x = left << half | right;
  } while (x >= static_cast<std::uint64_t>(size));
  return static_cast<std::int64_t>(x);
}

}  // namespace

std::uint64_t mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key) {
  return walk(index, size, half_of(size),
              [key](std::uint64_t round, std::uint64_t right) { return round_value(key, round, right); });
}

Permutation::Permutation(std::int64_t size, std::uint64_t key) : size_(size), key_(key), half_(half_of(size)) {
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    std::vector<std::uint32_t>& values = rounds_[round];
    values.resize(std::size_t{1} << half_);
    for (std::uint64_t right = 0; right < values.size(); ++right) {
      values[right] = static_cast<std::uint32_t>(round_value(key, round, right));
    }
  }
}

std::int64_t Permutation::at(std::int64_t index) const {
  return walk(index, size_, half_, [this](std::uint64_t round, std::uint64_t right) { return rounds_[round][right]; });
}

}  // namespace foretrain::exec
