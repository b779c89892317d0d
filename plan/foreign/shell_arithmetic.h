// Arithmetic of shell scripts, and what their names are made of.
#pragma once

#include <cctype>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace foretrain::plan {

inline bool begins_name(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
}
inline bool is_name(char c) {
  return begins_name(c) || std::isdigit(static_cast<unsigned char>(c)) != 0;
}
inline bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

// Of $((text)), in which $NAME is expanded already: +, -, *, /, % and parentheses over integers and variables; nothing
// where it is more than that.
std::optional<std::int64_t> shell_value(std::string_view text, const std::map<std::string, std::string>& scalars);

}  // namespace foretrain::plan
