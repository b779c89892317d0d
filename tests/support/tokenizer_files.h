// Small tokenizer.json files for tests.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace foretrain::test {

// The characters that stand for bytes in a tokenizer over bytes.
std::string byte_characters(const std::string& bytes);

// Over bytes: the id of a byte is its value, that of merge i is 256 + i. GPT-2's pattern cuts text.
nlohmann::json byte_tokenizer(const std::vector<std::pair<std::string, std::string>>& merges);

}  // namespace foretrain::test
