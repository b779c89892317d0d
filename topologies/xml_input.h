// What importers of XML share. For import_topology.h's twins only.
#pragma once

#include <tinyxml2.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "base/error.h"

namespace foretrain::topologies {

using tinyxml2::XMLElement;

// Throws InputError "origin:line: what".
[[noreturn]] inline void fail(const std::string& origin, int line, const std::string& what) {
  throw InputError(fmt::format("{}:{}: {}", origin, line, what));
}

inline void parse_xml(std::string_view text, const std::string& origin, tinyxml2::XMLDocument& document) {
  if (document.Parse(text.data(), text.size()) != tinyxml2::XML_SUCCESS) {
    fail(origin, document.ErrorLineNum(), fmt::format("not readable as XML ({})", document.ErrorName()));
  }
}

inline std::string attribute(const XMLElement& e, const char* name) {
  const char* value = e.Attribute(name);
  return value != nullptr ? value : "";
}

// A finite number at the beginning of the attribute ("16.0 GT/s PCIe"); nothing where there is none.
inline std::optional<double> number(const XMLElement& e, const char* name) {
  const std::string text = attribute(e, name);
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && std::isfinite(value) ? std::optional(value) : std::nullopt;
}

}  // namespace foretrain::topologies
