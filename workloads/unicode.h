// Code points of UTF-8 text and what tokenizers ask of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace foretrain::workloads {

// Value of a byte that is part of no code point: of no category, no white space.
inline constexpr char32_t kNoCodePoint = 0xFFFFFFFF;

struct CodePoint {
  char32_t value = kNoCodePoint;
  std::size_t bytes = 1;
};

// The code point that begins at byte `at`; for anything but well-formed UTF-8, one byte of none.
// REQUIRES: at < text.size().
CodePoint code_point(std::string_view text, std::size_t at);
// Where the code point begins that ends at byte `end`, in a walk from `begin` on. REQUIRES: begin < end.
std::size_t previous(std::string_view text, std::size_t begin, std::size_t end);

std::string to_utf8(char32_t value);

// As general categories begin: letters by their second letter as well.
enum class Category : std::uint8_t {
  upper,
  lower,
  title,
  modifier,
  other_letter,
  mark,
  number,
  punctuation,
  symbol,
  separator,
  other
};
Category category(char32_t c);
bool is_white_space(char32_t c);  // the property White_Space

// Whether normalisation form C may be another text. False: it is this one.
bool may_change_in_nfc(std::string_view text);

}  // namespace foretrain::workloads
