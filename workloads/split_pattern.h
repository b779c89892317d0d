// The regular expressions that tokenizers cut text with: GPT-2's, Llama 3's, Qwen's and their kin.
//
// Of the usual syntax (Oniguruma, Unicode) it has: characters, escapes, [classes], \s \S \d \p{L} \P{Lu} and the other
// letter categories, M, N, P, S, Z, C; | ( ) (?: ) (?i: ) (?! ); ? * + {m} {m,} {m,n} behind one character or class,
// ? behind a group. All greedy, first alternative first. Anything else is refused by name.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace foretrain::workloads {

struct SplitExpression;

class SplitPattern {
 public:
  // Throws InputError, without a place, that names what is not built.
  explicit SplitPattern(const std::string& expression);
  ~SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;

  // The pieces that matches and what lies between them cut the text into, in order; none is empty.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  // Bytes of the match that begins at `at`; 0 for none.
  std::size_t match(std::string_view text, std::size_t at) const;
  std::unique_ptr<const SplitExpression> root_;
};

inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace foretrain::workloads
