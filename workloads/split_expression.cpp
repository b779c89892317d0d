#include "workloads/split_expression.h"

#include <optional>
#include <string_view>

#include "base/error.h"
#include "workloads/unicode.h"

namespace foretrain::workloads {

namespace {

using CharSet = SplitExpression::CharSet;
using Item = SplitExpression::Item;
using Sequence = SplitExpression::Sequence;

constexpr std::int64_t kNoMost = INT64_MAX;
constexpr int kMaxDepth = 32;

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

}  // namespace

bool SplitExpression::CharSet::Property::holds(char32_t c) const {
  const bool in = white_space ? is_white_space(c) : (categories >> static_cast<int>(category(c)) & 1u) != 0;
  return in != negated;
}

bool SplitExpression::CharSet::listed(char32_t c) const {
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

bool SplitExpression::CharSet::decide(char32_t c) const {
  bool in = listed(c);
  if (folds_case && !in) {
    // The two letters beyond ASCII whose lower case is within it: long s and the Kelvin sign.
    const char32_t lower = c == 0x17F ? U's' : c == 0x212A ? U'k' : c >= U'A' && c <= U'Z' ? c + 32 : c;
    const char32_t upper = lower >= U'a' && lower <= U'z' ? lower - 32 : lower;
    in = listed(lower) || listed(upper);
  }
  return in != negated;
}

void SplitExpression::CharSet::finish() {
  for (std::size_t c = 0; c < kAscii; ++c) {
    ascii_[c] = decide(static_cast<char32_t>(c));
  }
}

SplitExpression::SplitExpression(const std::string& text) : alternatives(Compiler(text).compile()) {}

}  // namespace foretrain::workloads
