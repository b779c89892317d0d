// Byte pair encoding: a word's symbols are merged pair by pair, the pair of the lowest rank first, the leftmost of
// those (Sennrich et al. 2016, arXiv:1508.07909), until no pair of neighbours has a rank.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace foretrain::workloads {

class Bpe {
 public:
  using Id = std::int32_t;

  // The `rank`-th merge joins neighbours left and right to `joined`. False: the pair has a rank already.
  bool add_merge(Id left, Id right, Id joined, std::int64_t rank);
  // `symbols` merged, added to `out`. Time n log n of n symbols.
  void merge(const std::vector<Id>& symbols, std::vector<Id>& out) const;

 private:
  struct Merge {
    std::int64_t rank = 0;
    Id joined = 0;
  };
  static std::uint64_t key(Id left, Id right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace foretrain::workloads
