#include "workloads/unicode.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "workloads/unicode_table.h"

namespace foretrain::workloads {

namespace {

struct Run {
  char32_t end = 0;  // one past the last
  char kind = 0;
};

std::vector<Run> runs_of(const char* text) {
  std::vector<Run> runs;
  char32_t end = 0;
  while (*text != '\0') {
    const char kind = *text++;
    char* rest = nullptr;
    const unsigned long count = *text >= '0' && *text <= '9' ? std::strtoul(text, &rest, 10) : 1;
    text = rest != nullptr ? rest : text;
    end += static_cast<char32_t>(count);
    runs.push_back({end, kind});
  }
  return runs;
}

char kind_of(const std::vector<Run>& runs, char32_t c, char none) {
  const auto at = std::upper_bound(runs.begin(), runs.end(), c, [](char32_t x, const Run& r) { return x < r.end; });
  return at == runs.end() ? none : at->kind;
}

bool is_continuation(unsigned char byte) {
  return (byte & 0xC0) == 0x80;
}

}  // namespace

CodePoint code_point(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return {first, 1};
  }
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > text.size()) {
    return {};
  }
  char32_t value = first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(byte(i))) {
      return {};
    }
    value = value << 6 | (byte(i) & 0x3Fu);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  const bool surrogate = value >= 0xD800 && value < 0xE000;
  return overlong || surrogate || value > 0x10FFFF ? CodePoint{} : CodePoint{value, length};
}

// A first byte is never inside another code point, so a well-formed one that ends here was walked as such.
std::size_t previous(std::string_view text, std::size_t begin, std::size_t end) {
  for (std::size_t length = std::min<std::size_t>(4, end - begin); length > 1; --length) {
    if (code_point(text.substr(0, end), end - length).bytes == length) {
      return end - length;
    }
  }
  return end - 1;
}

std::string to_utf8(char32_t value) {
  std::string out;
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (value >> shift & 0x3F)); };
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else if (value < 0x800) {
    out += static_cast<char>(0xC0 | value >> 6);
    tail(0);
  } else if (value < 0x10000) {
    out += static_cast<char>(0xE0 | value >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | value >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
  return out;
}

Category category(char32_t c) {
  static const std::vector<Run> runs = runs_of(kCategoryRuns);
  switch (kind_of(runs, c, 'C')) {
    case 'u': return Category::upper;
    case 'l': return Category::lower;
    case 't': return Category::title;
    case 'm': return Category::modifier;
    case 'o': return Category::other_letter;
    case 'M': return Category::mark;
    case 'N': return Category::number;
    case 'P': return Category::punctuation;
    case 'S': return Category::symbol;
    case 'Z': return Category::separator;
    default: return Category::other;
  }
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool may_change_in_nfc(std::string_view text) {
  static const std::vector<Run> runs = runs_of(kComposingRuns);
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = code_point(text, at);
    if (c.value >= 0x80 && kind_of(runs, c.value, 'n') == 'y') {
      return true;
    }
    at += c.bytes;
  }
  return false;
}

}  // namespace foretrain::workloads
