// The expression of a SplitPattern as a tree. What is built of the usual syntax: split_pattern.h.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

namespace foretrain::workloads {

struct SplitExpression {
  // Which code points a place of the expression takes.
  class CharSet {
   public:
    struct Range {
      char32_t low = 0, high = 0;
    };
    struct Property {
      std::uint32_t categories = 0;  // one bit each
      bool white_space = false;
      bool negated = false;
      bool holds(char32_t c) const;
    };
    bool negated = false, folds_case = false;
    std::vector<Range> ranges;
    std::vector<Property> properties;

    // Call after the last change, before has().
    void finish();
    bool has(char32_t c) const { return c < kAscii ? ascii_[c] : decide(c); }

   private:
    static constexpr std::size_t kAscii = 128;
    bool decide(char32_t c) const;
    bool listed(char32_t c) const;
    std::bitset<kAscii> ascii_;  // the answers for these, ready
  };

  struct Item;
  using Sequence = std::vector<Item>;
  // Greedy: as many as there are, then fewer.
  struct Item {
    enum class Kind : std::uint8_t { set, group, not_ahead };
    Kind kind = Kind::set;
    CharSet set;
    std::vector<Sequence> alternatives;  // the first that matches counts
    std::int64_t least = 1, most = 1;
  };

  // Throws InputError, without a place, that names what is not built.
  explicit SplitExpression(const std::string& text);

  std::vector<Sequence> alternatives;
};

}  // namespace foretrain::workloads
