// Words behind `import`: files, and what they do not say themselves, as KEY=VALUE.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace foretrain::cli {

struct ImportWords {
  std::vector<std::string> files;
  std::map<std::string, std::string> values;

  bool has(const std::string& key) const { return values.count(key) > 0; }
  std::string value(const std::string& key, const std::string& otherwise) const;
  // 1 to kMostCounted, or `otherwise` where it is not given. Throws InputError.
  std::int64_t count(const std::string& key, std::int64_t otherwise) const;
};

inline constexpr std::int64_t kMostCounted = 1 << 20;  // ranks, nodes

// Throws InputError for a key that is none of `keys`: `"tp=2" is not allowed beside <what>; expected <usage>`.
ImportWords import_words(const std::vector<std::string>& words, const std::vector<std::string>& keys,
                         const std::string& what, const std::string& usage);

}  // namespace foretrain::cli
