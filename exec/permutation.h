// Permutations that a key names: of any size, in any order, by any rank, without a table of their elements.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace foretrain::exec {

// SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that scrambles well.
std::uint64_t mix(std::uint64_t z);

// Element `index` of a permutation of 0 … size - 1 that `key` names. REQUIRES: 0 <= index < size.
std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key);

// The same for many elements of one permutation: what its rounds give stands in tables of the root of its size.
class Permutation {
 public:
  static constexpr int kRounds = 4;

  Permutation() = default;
  Permutation(std::int64_t size, std::uint64_t key);

  bool is(std::int64_t size, std::uint64_t key) const { return size == size_ && key == key_; }
  // permuted() of it.
  std::int64_t at(std::int64_t index) const;

 private:
  std::int64_t size_ = 0;
  std::uint64_t key_ = 0;
  int half_ = 0;
  std::array<std::vector<std::uint32_t>, kRounds> rounds_;  // by the right half of a word
};

}  // namespace foretrain::exec
