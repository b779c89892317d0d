#include "cli/import_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace foretrain::cli {

std::string ImportWords::value(const std::string& key, const std::string& otherwise) const {
  const auto found = values.find(key);
  return found == values.end() ? otherwise : found->second;
}

std::int64_t ImportWords::count(const std::string& key, std::int64_t otherwise) const {
  if (!has(key)) {
    return otherwise;
  }
  const std::string& text = values.at(key);
  const char* const end = text.data() + text.size();
  std::int64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || rest != end || number < 1 || number > kMostCounted) {
    throw InputError(fmt::format("{}={} is not allowed; expected an integer from 1 to {}", key, text, kMostCounted));
  }
  return number;
}

ImportWords import_words(const std::vector<std::string>& words, const std::vector<std::string>& keys,
                         const std::string& what, const std::string& usage) {
  ImportWords given;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    if (equals == std::string::npos) {
      given.files.push_back(word);
    } else if (std::find(keys.begin(), keys.end(), key) != keys.end()) {
      given.values[key] = word.substr(equals + 1);
    } else {
      throw InputError(fmt::format("\"{}\" is not allowed beside {}; expected {}", word, what, usage));
    }
  }
  return given;
}

}  // namespace foretrain::cli
