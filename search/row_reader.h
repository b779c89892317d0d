// One measured row, read strictly: mistakes name file, line and key ("rows.jsonl:3: /plan/tp: ..."). Keys that nobody
// asks for are no mistake: rows carry remarks of their own. A key that is null is absent.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"

namespace foretrain::search {

// One line as an object, or null after a mistake: no JSON, no object, a key twice, or nested too deep.
nlohmann::json parse_row(std::string_view line, const std::string& place, Mistakes& mistakes);

class RowReader {
 public:
  // `place`: "rows.jsonl:3". All references must outlive the reader.
  RowReader(const nlohmann::json& object, std::string place, Mistakes& mistakes, std::string prefix = "");

  std::string text(const char* key, bool required = false) const;
  // Finite and >= 0; nothing where the key is absent.
  std::optional<double> number(const char* key) const;
  std::optional<std::int64_t> integer(const char* key, std::int64_t low) const;
  std::optional<bool> boolean(const char* key) const;
  // What stands there, whatever it is, as a word: "" absent, "true", "8", or the text. Objects and lists are mistakes.
  std::string word(const char* key) const;
  bool has(const char* key) const { return find(key, false) != nullptr; }
  // How many elements the list has; 0 where it is absent.
  std::size_t list_size(const char* key) const;
  // A nested object; a reader without any key where it is absent.
  RowReader object(const char* key, bool required = false) const;

 private:
  const nlohmann::json* find(const char* key, bool required) const;
  void wrong(const char* key, const nlohmann::json& value, const std::string& expected) const;
  const nlohmann::json& object_;
  std::string place_;
  Mistakes& mistakes_;
  std::string prefix_;  // "/plan"
};

}  // namespace foretrain::search
