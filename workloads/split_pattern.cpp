#include "workloads/split_pattern.h"

#include <optional>

#include "workloads/split_expression.h"
#include "workloads/unicode.h"

namespace foretrain::workloads {

namespace {

using Item = SplitExpression::Item;
using Sequence = SplitExpression::Sequence;

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

SplitPattern::SplitPattern(const std::string& expression)
    : root_(std::make_unique<const SplitExpression>(expression)) {}
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
