#include "workloads/byte_alphabet.h"

#include <array>
#include <unordered_map>

#include "workloads/unicode.h"

namespace foretrain::workloads {

namespace {

std::array<char32_t, 256> byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (std::size_t b = 0; b < alphabet.size(); ++b) {
    const bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    alphabet[b] = prints ? static_cast<char32_t>(b) : next++;
  }
  return alphabet;
}

}  // namespace

std::optional<std::string> bytes_of_characters(const std::string& text) {
  static const std::unordered_map<char32_t, char> byte = [] {
    std::unordered_map<char32_t, char> map;
    const std::array<char32_t, 256> alphabet = byte_alphabet();
    for (std::size_t b = 0; b < alphabet.size(); ++b) {
      map[alphabet[b]] = static_cast<char>(b);
    }
    return map;
  }();
  std::string bytes;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = code_point(text, at);
    const auto found = byte.find(c.value);
    if (found == byte.end()) {
      return std::nullopt;
    }
    bytes += found->second;
    at += c.bytes;
  }
  return bytes;
}

std::optional<unsigned char> byte_token(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>' ||
      token.find_first_not_of("0123456789ABCDEFabcdef", 3) != 5) {
    return std::nullopt;
  }
  return static_cast<unsigned char>(std::stoi(token.substr(3, 2), nullptr, 16));
}

}  // namespace foretrain::workloads
