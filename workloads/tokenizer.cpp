#include "workloads/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "workloads/unicode.h"

namespace foretrain::workloads {

namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581
constexpr std::size_t kMostCachedWords = 1 << 18;
constexpr std::size_t kLongestCachedWord = 64;

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  std::string out;
  std::size_t at = 0;
  for (std::size_t found; (found = text.find(from, at)) != std::string::npos; at = found + from.size()) {
    out.append(text, at, found - at);
    out += to;
  }
  out.append(text, at);
  text = std::move(out);
}

// Before each metaspace, or only those that follow something else.
std::vector<std::string_view> split_before_metaspaces(std::string_view text, bool each) {
  std::vector<std::string_view> pieces;
  std::size_t begin = 0;
  for (std::size_t at = text.find(kMetaspace); at != std::string_view::npos;
       at = text.find(kMetaspace, at + kMetaspace.size())) {
    const bool follows_one =
        !each && at >= kMetaspace.size() && text.substr(at - kMetaspace.size()).starts_with(kMetaspace);
    if (at > begin && !follows_one) {
      pieces.push_back(text.substr(begin, at - begin));
      begin = at;
    }
  }
  pieces.push_back(text.substr(begin));
  return pieces;
}

}  // namespace

std::vector<Tokenizer::Id> Tokenizer::encode(std::string_view text) const {
  if (wants_nfc_ && may_change_in_nfc(text)) {
    throw InputError(fmt::format(
        "tokenizer: {}: wants text in normalisation form C, and this one has characters that the form may change; "
        "normalise it before (python3: unicodedata.normalize('NFC', text))",
        name_));
  }
  std::vector<Id> ids;
  WordCache words;
  // First bytes of added tokens: where none stands, none begins.
  std::array<bool, 256> begins{};
  for (const AddedToken& token : added_) {
    begins[static_cast<unsigned char>(token.content.front())] = true;
  }
  std::size_t part = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto found = !begins[static_cast<unsigned char>(text[at])]
                           ? added_.end()
                           : std::find_if(added_.begin(), added_.end(), [&](const AddedToken& token) {
                               return text.substr(at).starts_with(token.content);
                             });
    if (found == added_.end()) {
      ++at;
      continue;
    }
    encode_part(text.substr(part, at - part), part == 0, words, ids);
    ids.push_back(found->id);
    part = at += found->content.size();
  }
  encode_part(text.substr(part), part == 0, words, ids);
  return ids;
}

std::string Tokenizer::normalized(std::string_view part, bool first) const {
  std::string text(part);
  for (const auto& [from, to] : replacements_) {
    replace_all(text, from, to);
  }
  const bool prepends = prepend_ == Prepend::always || (prepend_ == Prepend::first && first);
  return prepends && !(prepends_once_ && text.starts_with(prepended_)) ? prepended_ + text : text;
}

void Tokenizer::encode_part(std::string_view part, bool first, WordCache& words, std::vector<Id>& out) const {
  if (part.empty()) {
    return;
  }
  const std::string text = over_bytes_ ? std::string() : normalized(part, first);
  std::vector<std::string_view> pieces{over_bytes_ ? part : std::string_view(text)};
  if (space_cut_ != SpaceCut::none) {
    pieces = split_before_metaspaces(text, space_cut_ == SpaceCut::each);
  }
  for (const SplitPattern& split : splits_) {
    std::vector<std::string_view> smaller;
    for (const std::string_view piece : pieces) {
      const std::vector<std::string_view> more = split.split(piece);
      smaller.insert(smaller.end(), more.begin(), more.end());
    }
    pieces = std::move(smaller);
  }
  for (const std::string_view word : pieces) {
    if (word.size() > kLongestCachedWord) {
      encode_word(word, out);
      continue;
    }
    const auto [known, is_new] = words.try_emplace(std::string(word));
    if (is_new) {
      encode_word(word, known->second);
    }
    out.insert(out.end(), known->second.begin(), known->second.end());
    if (words.size() > kMostCachedWords) {
      words.clear();
    }
  }
}

void Tokenizer::encode_word(std::string_view word, std::vector<Id>& out) const {
  if (ignores_merges_) {
    if (const auto whole = id_of_.find(std::string(word)); whole != id_of_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  bpe_.merge(symbols(word), out);
}

std::vector<Tokenizer::Id> Tokenizer::symbols(std::string_view word) const {
  std::vector<Id> ids;
  if (over_bytes_) {
    for (const char c : word) {
      ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    }
    return ids;
  }
  bool after_unknown = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, code_point(word, at).bytes);
    at += character.size();
    const auto known = id_of_.find(std::string(character));
    const bool has_bytes = std::all_of(character.begin(), character.end(),
                                       [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
    const bool is_unknown = known == id_of_.end() && !has_bytes;
    if (known != id_of_.end()) {
      ids.push_back(known->second);
    } else if (has_bytes) {
      for (const char c : character) {
        ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      }
    } else if (!unknown_) {
      throw InputError(
          fmt::format("tokenizer: {}: has no token for the character U+{:04X}, none for its bytes and none for what it "
                      "does not know",
                      name_, static_cast<std::uint32_t>(code_point(character, 0).value)));
    } else if (!after_unknown || !fuses_unknown_) {
      ids.push_back(*unknown_);
    }
    after_unknown = is_unknown;
  }
  return ids;
}

std::string_view Tokenizer::bytes(Id id) const {
  return id >= 0 && id < size() ? std::string_view(tokens_[static_cast<std::size_t>(id)]) : std::string_view();
}

std::string Tokenizer::decode(std::span<const Id> ids) const {
  std::string text;
  for (const Id id : ids) {
    text += bytes(id);
  }
  return strips_space_ && text.starts_with(' ') ? text.substr(1) : text;
}

}  // namespace foretrain::workloads
