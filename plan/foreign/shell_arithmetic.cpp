#include "plan/foreign/shell_arithmetic.h"

#include <charconv>

namespace foretrain::plan {

namespace {

constexpr int kDeepest = 64;  // parentheses of $((…))

class Arithmetic {
 public:
  Arithmetic(std::string_view text, const std::map<std::string, std::string>& scalars)
      : text_(text), scalars_(scalars) {}

  std::optional<std::int64_t> value() {
    const std::int64_t v = sum();
    blanks();
    return ok_ && at_ == text_.size() ? std::optional(v) : std::nullopt;
  }

 private:
  void blanks() {
    while (at_ < text_.size() && (is_blank(text_[at_]) || text_[at_] == '\n')) {
      ++at_;
    }
  }
  bool take(char c) {
    blanks();
    const bool there = at_ < text_.size() && text_[at_] == c;
    at_ += there ? 1 : 0;
    return there;
  }
  // Unsigned arithmetic wraps; a script that needs more than 63 bits is no launch script.
  static std::int64_t wrapped(std::uint64_t v) { return static_cast<std::int64_t>(v); }
  std::int64_t sum() {
    std::int64_t v = product();
    while (ok_) {
      if (take('+')) {
        v = wrapped(static_cast<std::uint64_t>(v) + static_cast<std::uint64_t>(product()));
      } else if (take('-')) {
        v = wrapped(static_cast<std::uint64_t>(v) - static_cast<std::uint64_t>(product()));
      } else {
        break;
      }
    }
    return v;
  }
  std::int64_t product() {
    std::int64_t v = factor();
    while (ok_) {
      if (take('*')) {
        v = wrapped(static_cast<std::uint64_t>(v) * static_cast<std::uint64_t>(factor()));
      } else if (take('/')) {
        v = divided(v, factor(), false);
      } else if (take('%')) {
        v = divided(v, factor(), true);
      } else {
        break;
      }
    }
    return v;
  }
  std::int64_t divided(std::int64_t a, std::int64_t b, bool rest) {
    ok_ &= b > 0;
    return !ok_ ? 0 : rest ? a % b : a / b;
  }
  std::int64_t factor() {
    if (take('(')) {
      ok_ &= ++depth_ <= kDeepest;
      const std::int64_t v = ok_ ? sum() : 0;
      --depth_;
      ok_ &= take(')');
      return v;
    }
    blanks();
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_name(text_[at_])) {
      ++at_;
    }
    std::string word(text_.substr(begin, at_ - begin));
    if (!word.empty() && begins_name(word.front())) {
      const auto found = scalars_.find(word);
      word = found == scalars_.end() ? "" : found->second;
    }
    std::int64_t v = 0;
    const auto result = std::from_chars(word.data(), word.data() + word.size(), v);
    ok_ &= result.ec == std::errc{} && result.ptr == word.data() + word.size();
    return v;
  }

  std::string_view text_;
  const std::map<std::string, std::string>& scalars_;
  std::size_t at_ = 0;
  int depth_ = 0;
  bool ok_ = true;
};

}  // namespace

std::optional<std::int64_t> shell_value(std::string_view text, const std::map<std::string, std::string>& scalars) {
  return Arithmetic(text, scalars).value();
}

}  // namespace foretrain::plan
