#include "workloads/split_pattern.h"

#include <bitset>
#include <cstdint>
#include <optional>

#include "base/error.h"
#include "workloads/unicode.h"

namespace foretrain::workloads {

namespace {

constexpr std::size_t kAscii = 128;
constexpr std::int64_t kNoMost = INT64_MAX;
constexpr int kMaxDepth = 32;

// Which code points a place of the expression takes.
struct CharSet {
  struct Range {
    char32_t low = 0, high = 0;
  };
  struct Property {
    std::uint32_t categories = 0;  // one bit each
    bool white_space = false;
    bool negated = false;

    bool holds(char32_t c) const {
      const bool in = white_space ? is_white_space(c) : (categories >> static_cast<int>(category(c)) & 1u) != 0;
      return in != negated;
    }
  };
  bool negated = false, folds_case = false;
  std::vector<Range> ranges;
  std::vector<Property> properties;
  std::bitset<kAscii> ascii;  // the answers for these, ready

  bool has(char32_t c) const { return c < kAscii ? ascii[c] : decide(c); }
  bool decide(char32_t c) const {
    bool in = listed(c);
    if (folds_case && !in) {
      // The two letters beyond ASCII whose lower case is within it: long s and the Kelvin sign.
      const char32_t lower = c == 0x17F ? U's' : c == 0x212A ? U'k' : c >= U'A' && c <= U'Z' ? c + 32 : c;
      const char32_t upper = lower >= U'a' && lower <= U'z' ? lower - 32 : lower;
      in = listed(lower) || listed(upper);
    }
    return in != negated;
  }
  void finish() {
    for (std::size_t c = 0; c < kAscii; ++c) {
      ascii[c] = decide(static_cast<char32_t>(c));
    }
  }

 private:
  bool listed(char32_t c) const {
    for (const Range& r : ranges) {
      if (c >= r.low && c <= r.high && c != kNoCodePoint) {
        return true;
      }
    }
    for (const Property& p : properties) {
      if (p.holds(c)) {
        return true;
      }
    }
    return false;
  }
};

struct Item;
using Sequence = std::vector<Item>;

struct Item {
  enum class Kind : std::uint8_t { set, group, not_ahead };
  Kind kind = Kind::set;
  CharSet set;
  std::vector<Sequence> alternatives;
  std::int64_t least = 1, most = 1;
};

std::optional<std::uint32_t> categories_named(std::string_view name) {
  const auto bit = [](Category c) { return 1u << static_cast<int>(c); };
  const std::uint32_t letters = bit(Category::upper) | bit(Category::lower) | bit(Category::title) |
                                bit(Category::modifier) | bit(Category::other_letter);
  return name == "L"    ? std::optional(letters)
         : name == "Lu" ? std::optional(bit(Category::upper))
         : name == "Ll" ? std::optional(bit(Category::lower))
         : name == "Lt" ? std::optional(bit(Category::title))
         : name == "Lm" ? std::optional(bit(Category::modifier))
         : name == "Lo" ? std::optional(bit(Category::other_letter))
         : name == "M"  ? std::optional(bit(Category::mark))
         : name == "N"  ? std::optional(bit(Category::number))
         : name == "P"  ? std::optional(bit(Category::punctuation))
         : name == "S"  ? std::optional(bit(Category::symbol))
         : name == "Z"  ? std::optional(bit(Category::separator))
         : name == "C"  ? std::optional(bit(Category::other))
                        : std::nullopt;
}

class Compiler {
 public:
  explicit Compiler(const std::string& text) : text_(text) {}

  std::vector<Sequence> compile() {
    std::vector<Sequence> all = alternatives(false, 0);
    if (at_ < text_.size()) {
      refuse("an unmatched )");
    }
    return all;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(
        fmt::format("{} at character {} is not built yet; built: characters, [classes], \\s \\S \\d "
                    "\\p{{L}} and kin, | (?: ) (?i: ) (?! ), ? * + {{m,n}}",
                    what, at_));
  }
  bool done() const { return at_ >= text_.size(); }
  bool starts(std::string_view word) const { return std::string_view(text_).substr(at_).starts_with(word); }
  bool take(std::string_view word) {
    const bool is_there = starts(word);
    at_ += is_there ? word.size() : 0;
    return is_there;
  }
  char32_t next() {
    if (done()) {
      refuse("an early end");
    }
    const CodePoint c = code_point(text_, at_);
    at_ += c.bytes;
    return c.value;
  }

  std::vector<Sequence> alternatives(bool folds, int depth) {
    if (depth > kMaxDepth) {
      refuse("so deep a nesting");
    }
    std::vector<Sequence> all(1);
    while (!done() && !starts(")")) {
      if (take("|")) {
        all.emplace_back();
      } else {
        all.back().push_back(item(folds, depth));
      }
    }
    return all;
  }

  Item item(bool folds, int depth) {
    Item out;
    if (take("(")) {
      out.kind = take("?!") ? Item::Kind::not_ahead : Item::Kind::group;
      if (out.kind == Item::Kind::group) {
        if (take("?i:")) {
          folds = true;
        } else if (starts("?") && !take("?:")) {
          refuse("this kind of group");
        }
      }
      out.alternatives = alternatives(folds, depth + 1);
      if (!take(")")) {
        refuse("an unclosed (");
      }
    } else {
      out.set = take("[") ? char_class() : single();
      out.set.folds_case = folds;
      out.set.finish();
    }
    quantify(out);
    return out;
  }

  void quantify(Item& out) {
    if (take("?")) {
      out.least = 0;
    } else if (take("*")) {
      out.least = 0;
      out.most = kNoMost;
    } else if (take("+")) {
      out.most = kNoMost;
    } else if (take("{")) {
      out.least = count();
      out.most = !take(",") ? out.least : starts("}") ? kNoMost : count();
      if (!take("}") || out.least > out.most) {
        refuse("this repetition");
      }
    } else {
      return;
    }
    if (starts("?") || starts("+") || starts("*") || starts("{")) {
      refuse("a lazy, possessive or double repetition");
    }
    if (out.kind != Item::Kind::set && (out.most != 1 || out.kind == Item::Kind::not_ahead)) {
      refuse("a repeated group");
    }
  }

  std::int64_t count() {
    std::int64_t value = 0;
    const std::size_t first = at_;
    while (!done() && text_[at_] >= '0' && text_[at_] <= '9' && at_ - first < 6) {
      value = value * 10 + (text_[at_++] - '0');
    }
    if (at_ == first) {
      refuse("this repetition");
    }
    return value;
  }

  CharSet single() {
    CharSet set;
    if (take("\\")) {
      escape(set);
    } else if (take(".")) {
      set.negated = true;
      set.ranges.push_back({U'\n', U'\n'});
    } else if (starts("^") || starts("$") || starts("*") || starts("+") || starts("?") || starts("{")) {
      refuse(fmt::format("\"{}\"", text_[at_]));
    } else {
      const char32_t c = next();
      set.ranges.push_back({c, c});
    }
    return set;
  }

  CharSet char_class() {
    CharSet set;
    set.negated = take("^");
    for (bool first = true; first || !take("]"); first = false) {
      if (starts("[") || starts("&&")) {
        refuse("a class in a class");
      }
      if (take("\\")) {
        const std::size_t properties = set.properties.size();
        escape(set);
        if (starts("-") && set.properties.size() == properties && !starts("-]")) {
          take("-");
          range_to(set);
        }
        continue;
      }
      const char32_t low = next();
      set.ranges.push_back({low, low});
      if (starts("-") && !starts("-]")) {
        take("-");
        range_to(set);
      }
    }
    return set;
  }

  // The last range of the set goes on to what follows.
  void range_to(CharSet& set) {
    CharSet end;
    take("\\") ? escape(end) : end.ranges.push_back({next(), 0});
    if (end.ranges.size() != 1 || end.ranges[0].low < set.ranges.back().low) {
      refuse("this range");
    }
    set.ranges.back().high = end.ranges[0].low;
  }

  void escape(CharSet& set) {
    const char32_t c = next();
    const auto single_character = [&](char32_t x) { set.ranges.push_back({x, x}); };
    switch (c) {
      case U'r': return single_character(U'\r');
      case U'n': return single_character(U'\n');
      case U't': return single_character(U'\t');
      case U's': set.properties.push_back({0, true, false}); return;
      case U'S': set.properties.push_back({0, true, true}); return;
      case U'd': set.ranges.push_back({U'0', U'9'}); return;
      case U'p':
      case U'P': {
        const std::size_t close = text_.find('}', at_);
        const bool is_braced = starts("{") && close != std::string::npos;
        const auto categories =
            is_braced ? categories_named(text_.substr(at_ + 1, close - at_ - 1)) : std::optional<std::uint32_t>();
        if (!categories) {
          refuse("this property");
        }
        at_ = close + 1;
        set.properties.push_back({*categories, false, c == U'P'});
        return;
      }
      default:
        if ((c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z') || (c >= U'0' && c <= U'9')) {
          refuse(fmt::format("\\{}", static_cast<char>(c)));
        }
        return single_character(c);
    }
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

// What is left to match behind a group.
struct Rest {
  const Sequence* sequence = nullptr;
  std::size_t item = 0;
  const Rest* outer = nullptr;
};

class Matcher {
 public:
  explicit Matcher(std::string_view text) : text_(text) {}

  // Where the match ends that begins at `at`.
  std::optional<std::size_t> any(const std::vector<Sequence>& alternatives, std::size_t at, const Rest* rest) const {
    for (const Sequence& sequence : alternatives) {
      if (const auto end = follow({&sequence, 0, rest}, at)) {
        return end;
      }
    }
    return std::nullopt;
  }

 private:
  std::optional<std::size_t> follow(Rest here, std::size_t at) const {
    for (;;) {
      if (here.item == here.sequence->size()) {
        if (here.outer == nullptr) {
          return at;
        }
        here = *here.outer;
        continue;
      }
      const Item& item = (*here.sequence)[here.item++];
      switch (item.kind) {
        case Item::Kind::set: return repeat(item, here, at);
        case Item::Kind::not_ahead:
          if (any(item.alternatives, at, nullptr)) {
            return std::nullopt;
          }
          break;
        case Item::Kind::group:
          if (const auto end = any(item.alternatives, at, &here)) {
            return end;
          }
          if (item.least > 0) {
            return std::nullopt;
          }
          break;
      }
    }
  }

  // As many as there are, then one less at a time until the rest matches.
  std::optional<std::size_t> repeat(const Item& item, const Rest& rest, const std::size_t begin) const {
    std::size_t at = begin;
    std::int64_t count = 0;
    while (count < item.most && at < text_.size()) {
      const CodePoint c = code_point(text_, at);
      if (!item.set.has(c.value)) {
        break;
      }
      at += c.bytes;
      ++count;
    }
    for (; count >= item.least; --count) {
      if (const auto end = follow(rest, at)) {
        return end;
      }
      if (count == 0) {
        break;
      }
      at = previous(text_, begin, at);
    }
    return std::nullopt;
  }

  const std::string_view text_;
};

}  // namespace

struct SplitPattern::Node {
  std::vector<Sequence> alternatives;
};

SplitPattern::SplitPattern(const std::string& expression)
    : root_(std::make_unique<const Node>(Node{Compiler(expression).compile()})) {}
SplitPattern::~SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;

std::size_t SplitPattern::match(std::string_view text, std::size_t at) const {
  return Matcher(text).any(root_->alternatives, at, nullptr).value_or(at) - at;
}

std::vector<std::string_view> SplitPattern::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  std::size_t gap = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = match(text, at);
    if (length == 0) {
      at += code_point(text, at).bytes;
      continue;
    }
    if (gap < at) {
      pieces.push_back(text.substr(gap, at - gap));
    }
    pieces.push_back(text.substr(at, length));
    gap = at += length;
  }
  if (gap < text.size()) {
    pieces.push_back(text.substr(gap));
  }
  return pieces;
}

}  // namespace foretrain::workloads
