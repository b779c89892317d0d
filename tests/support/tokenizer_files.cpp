#include "tests/support/tokenizer_files.h"

#include <nlohmann/json.hpp>

#include "workloads/unicode.h"

namespace foretrain::test {

namespace {

// The character that stands for a byte in a tokenizer over bytes.
std::string byte_character(int byte) {
  int next = 0x100;
  for (int b = 0;; ++b) {
    const bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const int character = prints ? b : next++;
    if (b == byte) {
      return workloads::to_utf8(static_cast<char32_t>(character));
    }
  }
}

}  // namespace

std::string byte_characters(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    out += byte_character(static_cast<unsigned char>(c));
  }
  return out;
}

nlohmann::json byte_tokenizer(const std::vector<std::pair<std::string, std::string>>& merges) {
  nlohmann::json vocab, file, pairs = nlohmann::json::array();
  for (int b = 0; b < 256; ++b) {
    vocab[byte_character(b)] = b;
  }
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string left = byte_characters(merges[i].first), right = byte_characters(merges[i].second);
    vocab[left + right] = 256 + i;
    pairs.push_back(left + " " + right);
  }
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  file["decoder"] = {{"type", "ByteLevel"}};
  file["model"] = {{"type", "BPE"}, {"vocab", vocab}, {"merges", pairs}};
  return file;
}

}  // namespace foretrain::test
