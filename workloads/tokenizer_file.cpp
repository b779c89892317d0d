// tokenizer.json into a Tokenizer.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "workloads/byte_alphabet.h"
#include "workloads/hf_keys.h"
#include "workloads/tokenizer.h"
#include "workloads/unicode.h"

namespace foretrain::workloads {

namespace {

constexpr const char* kMetaspace = "\xE2\x96\x81";  // U+2581
constexpr std::int64_t kMostTokens = 2'000'000;

std::string escaped(const std::string& literal) {
  std::string out;
  for (const char c : literal) {
    const bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    out += is_word || (c & 0x80) != 0 || c == ' ' || c == '\n' ? "" : "\\";
    out += c;
  }
  return out;
}

}  // namespace

class TokenizerFile {
 public:
  TokenizerFile(const JsonDocument& document, Mistakes& mistakes) : root_(document, mistakes) {
    t_.name_ = document.origin();
  }

  Tokenizer read() {
    t_.over_bytes_ = false;
    each("pre_tokenizer", "pretokenizers", [&](ObjectReader& r) { read_pre_tokenizer(r); });
    each("normalizer", "normalizers", [&](ObjectReader& r) { read_normalizer(r); });
    each("decoder", "decoders", [&](ObjectReader& r) { read_decoder(r); });
    if (root_.present()) {
      read_model();
      read_added();
      check();
    }
    return std::move(t_);
  }

 private:
  using Id = Tokenizer::Id;

  // Calls read with what stands at `key`, or with each part where it is a sequence.
  template <class F>
  void each(const std::string& key, const char* parts, const F& read) {
    if (root_.present() && hf::given(root_, key)) {
      ObjectReader reader = root_.object(key);
      each_part(reader, parts, read, 0);
    }
  }
  template <class F>
  void each_part(ObjectReader& reader, const char* parts, const F& read, int depth) {
    const nlohmann::json* const type = reader.present() ? reader.raw("type") : nullptr;
    if (type == nullptr || *type != "Sequence" || depth > 8) {
      read(reader);
      return;
    }
    for (ObjectReader& part : reader.objects(parts)) {
      each_part(part, parts, read, depth + 1);
    }
  }

  // The part's type; none where it is not one of those that are built, which is a mistake.
  static std::optional<std::string> type_of(ObjectReader& r, const std::vector<std::string>& built,
                                            const std::vector<std::string>& planned) {
    const std::size_t before = r.mistakes().count();
    const std::string type = r.word("type", std::nullopt, built, planned);
    return r.mistakes().count() == before && r.present() ? std::optional(type) : std::nullopt;
  }

  void read_normalizer(ObjectReader& r) {
    const auto type = type_of(r, {"NFC", "Prepend", "Replace"},
                              {"NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "BertNormalizer",
                               "Precompiled", "Nmt", "ByteLevel"});
    if (!type) {
      return;
    }
    if (type == "NFC") {
      t_.wants_nfc_ = true;
    } else if (t_.over_bytes_) {
      r.mistake("type", fmt::format("\"{}\" before the pre-tokenizer ByteLevel is not built yet; built: NFC", *type));
    } else if (type == "Prepend") {
      t_.prepended_ = r.text("prepend", std::nullopt);
    } else {
      t_.replacements_.emplace_back(pattern_text(r), r.text("content", std::nullopt));
    }
  }

  // {"String": …}.
  std::string pattern_text(ObjectReader& r) {
    ObjectReader pattern = r.object("pattern");
    if (pattern.present() && pattern.has("Regex")) {
      pattern.mistake("Regex", "is not built yet here; built: String");
      return " ";
    }
    const std::string text = pattern.text("String", std::nullopt);
    if (pattern.present() && text.empty()) {
      pattern.mistake("String", "\"\" is not allowed; expected a text");
      return " ";
    }
    return text;
  }

  void add_split(ObjectReader& r, const std::string& key, const std::string& expression) {
    try {
      t_.splits_.emplace_back(expression);
    } catch (const InputError& e) {
      r.mistake(key, e.what());
    }
  }

  void read_pre_tokenizer(ObjectReader& r) {
    if (t_.over_bytes_) {
      r.mistake("type", "behind ByteLevel no other pre-tokenizer is built");
      return;
    }
    const auto type = type_of(r, {"ByteLevel", "Split", "Digits", "Metaspace"},
                              {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "CharDelimiterSplit", "Punctuation",
                               "UnicodeScripts", "FixedLength"});
    if (!type) {
      return;
    }
    if (type == "ByteLevel") {
      t_.over_bytes_ = true;
      if (hf::boolean(r, "add_prefix_space", true)) {
        r.mistake("add_prefix_space", "true, its default, is not built yet; expected false");
      }
      if (hf::boolean(r, "use_regex", true)) {
        t_.splits_.emplace_back(kGpt2Pattern);
      }
    } else if (type == "Digits") {
      add_split(r, "type", hf::boolean(r, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "Split") {
      r.word("behavior", std::nullopt, {"Isolated"}, {"Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
      if (hf::boolean(r, "invert", false)) {
        r.mistake("invert", "true is not built yet; expected false");
      }
      ObjectReader pattern = r.object("pattern");
      const bool is_regex = pattern.present() && pattern.has("Regex");
      add_split(r, "pattern", is_regex ? pattern.text("Regex", "") : escaped(pattern_text(r)));
    } else {
      read_metaspace(r);
      t_.replacements_.emplace_back(" ", kMetaspace);
      t_.prepended_ = kMetaspace;
      t_.prepends_once_ = true;
      t_.space_cut_ = hf::boolean(r, "split", true) ? Tokenizer::SpaceCut::each : Tokenizer::SpaceCut::none;
    }
  }

  void read_metaspace(ObjectReader& r) {
    if (hf::given(r, "replacement") && r.text("replacement", "") != kMetaspace) {
      r.mistake("replacement", "is not built yet; expected U+2581");
    }
    const std::string scheme = hf::given(r, "prepend_scheme")
                                   ? r.word("prepend_scheme", std::nullopt, {"always", "first", "never"})
                               : hf::boolean(r, "add_prefix_space", true) ? "always"
                                                                          : "never";
    t_.prepend_ = scheme == "always"  ? Tokenizer::Prepend::always
                  : scheme == "first" ? Tokenizer::Prepend::first
                                      : Tokenizer::Prepend::never;
  }

  void read_decoder(ObjectReader& r) {
    const auto type = type_of(r, {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"},
                              {"WordPiece", "BPEDecoder", "CTC"});
    has_decoder_ = true;
    if (!type) {
      return;
    }
    if ((type == "ByteLevel") != t_.over_bytes_) {
      r.mistake("type", fmt::format("\"{}\" {} the pre-tokenizer ByteLevel is not built yet", *type,
                                    t_.over_bytes_ ? "with" : "without"));
    } else if (type == "Replace") {
      if (pattern_text(r) != kMetaspace || r.text("content", std::nullopt) != " ") {
        r.mistake("pattern", "is not built yet; expected U+2581 replaced by a space");
      }
    } else if (type == "Strip") {
      const bool built = r.text("content", " ") == " " && r.integer("start", 0, 0) == 1 && r.integer("stop", 0, 0) == 0;
      if (!built) {
        r.mistake("", "Strip is built for the content \" \", start 1 and stop 0 only");
      }
      t_.strips_space_ = true;
    } else if (type == "Metaspace") {
      const Tokenizer::Prepend prepend = t_.prepend_;
      read_metaspace(r);
      t_.strips_space_ = t_.prepend_ != Tokenizer::Prepend::never;
      t_.prepend_ = prepend;
    }
  }

  void read_model() {
    ObjectReader model = root_.object("model");
    if (!model.present()) {
      return;
    }
    if (hf::given(model, "type") && !type_of(model, {"BPE"}, {"WordPiece", "Unigram", "WordLevel"})) {
      return;
    }
    is_bpe_ = true;
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (hf::given(model, key) && !model.text(key, "").empty()) {
        model.mistake(key, "is not built yet; expected null or \"\"");
      }
    }
    if (hf::number(model, "dropout", 0, 0, 1) != 0) {
      model.mistake("dropout", "is not built yet; expected null");
    }
    t_.ignores_merges_ = hf::boolean(model, "ignore_merges", false);
    t_.fuses_unknown_ = hf::boolean(model, "fuse_unk", false);
    read_vocab(model);
    if (hf::boolean(model, "byte_fallback", false) && !t_.over_bytes_) {
      read_byte_tokens();
    }
    if (hf::given(model, "unk_token") && !t_.over_bytes_) {
      const auto unknown = ids_.find(model.text("unk_token", ""));
      if (unknown == ids_.end()) {
        model.mistake("unk_token", "is no token of the vocabulary");
      } else {
        t_.unknown_ = unknown->second;
      }
    }
    read_merges(model);
  }

  void set_token(Id id, std::string bytes) {
    if (id >= t_.size()) {
      t_.tokens_.resize(static_cast<std::size_t>(id) + 1);
      is_used_.resize(t_.tokens_.size(), false);
    }
    is_used_[static_cast<std::size_t>(id)] = true;
    t_.tokens_[static_cast<std::size_t>(id)] = std::move(bytes);
  }

  void read_vocab(ObjectReader& model) {
    t_.byte_ids_.fill(-1);
    const nlohmann::json* const vocab = model.raw("vocab");
    if (vocab == nullptr || !vocab->is_object() || vocab->empty()) {
      model.mistake("vocab", "is missing or no object; expected ids by token");
      return;
    }
    for (const auto& [token, value] : vocab->items()) {
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= static_cast<std::uint64_t>(kMostTokens)) {
        model.mistake("vocab", fmt::format("{}: {} is not allowed; expected an id from 0 to {}", shown(token),
                                           shown(value), kMostTokens - 1));
        continue;
      }
      const auto id = static_cast<Id>(value.get<std::int64_t>());
      if (id < t_.size() && is_used_[static_cast<std::size_t>(id)]) {
        model.mistake("vocab", fmt::format("{}: the id {} is another token's, too", shown(token), id));
        continue;
      }
      ids_[token] = id;
      const std::optional<std::string> bytes = t_.over_bytes_ ? bytes_of_characters(token) : token;
      if (bytes) {
        t_.id_of_[*bytes] = id;
        if (t_.over_bytes_ && bytes->size() == 1) {
          t_.byte_ids_[static_cast<unsigned char>(bytes->front())] = id;
        }
      }
      set_token(id, t_.over_bytes_ ? bytes.value_or(token) : with_spaces(token));
    }
  }

  static std::string with_spaces(const std::string& token) {
    std::string out;
    for (std::size_t at = 0; at < token.size();) {
      const CodePoint c = code_point(token, at);
      out += c.value == U'\u2581' ? std::string(" ") : token.substr(at, c.bytes);
      at += c.bytes;
    }
    return out;
  }

  void read_byte_tokens() {
    for (const auto& [token, id] : ids_) {
      if (const auto byte = byte_token(token)) {
        t_.byte_ids_[*byte] = id;
        set_token(id, std::string(1, static_cast<char>(*byte)));
      }
    }
  }

  // Both parts of a merge, written "left right" or as two texts.
  static std::optional<std::pair<std::string, std::string>> parts_of(const nlohmann::json& merge) {
    if (merge.is_string()) {
      const auto text = merge.get<std::string>();
      const std::size_t space = text.find(' ');
      return space == std::string::npos || text.find(' ', space + 1) != std::string::npos
                 ? std::nullopt
                 : std::optional(std::pair(text.substr(0, space), text.substr(space + 1)));
    }
    const bool is_pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    return is_pair ? std::optional(std::pair(merge[0].get<std::string>(), merge[1].get<std::string>())) : std::nullopt;
  }

  void read_merges(ObjectReader& model) {
    const nlohmann::json* const merges = model.raw("merges");
    if (merges == nullptr || !merges->is_array()) {
      model.mistake("merges", "is missing or no list; expected pairs of tokens");
      return;
    }
    for (std::size_t i = 0; i < merges->size(); ++i) {
      const nlohmann::json& merge = (*merges)[i];
      const auto parts = parts_of(merge);
      if (!parts) {
        model.mistake("merges",
                      fmt::format("entry {}: {} is not allowed; expected \"left right\" or [\"left\", \"right\"]", i,
                                  shown(merge)));
        continue;
      }
      const auto id_of = [&](const std::string& token) {
        const auto found = ids_.find(token);
        if (found == ids_.end()) {
          model.mistake("merges", fmt::format("entry {}: {} is no token of the vocabulary", i, shown(token)));
        }
        return found == ids_.end() ? Id{-1} : found->second;
      };
      const Id left = id_of(parts->first), right = id_of(parts->second), joined = id_of(parts->first + parts->second);
      if (left >= 0 && right >= 0 && joined >= 0 &&
          !t_.bpe_.add_merge(left, right, joined, static_cast<std::int64_t>(i))) {
        model.mistake("merges", fmt::format("entry {}: {} stands here a second time", i, shown(merge)));
      }
    }
  }

  void read_added() {
    for (ObjectReader& r : root_.objects("added_tokens", /*required=*/false)) {
      const std::string content = r.text("content", std::nullopt);
      const auto id = static_cast<Id>(r.integer("id", std::nullopt, 0, kMostTokens - 1));
      for (const char* key : {"single_word", "lstrip", "rstrip"}) {
        if (hf::boolean(r, key, false)) {
          r.mistake(key, "true is not built yet; expected false");
        }
      }
      const auto known = ids_.find(content);
      if (content.empty()) {
        r.mistake("content", "\"\" is not allowed; expected a text");
      } else if (known != ids_.end() ? known->second != id : id < t_.size() && is_used_[static_cast<std::size_t>(id)]) {
        r.mistake("id", fmt::format("{} is not allowed: the vocabulary has {} otherwise", id,
                                    known != ids_.end() ? "this token" : "this id"));
      } else {
        set_token(id, content);
        t_.added_.push_back({content, id});
      }
    }
    std::stable_sort(t_.added_.begin(), t_.added_.end(),
                     [](const auto& a, const auto& b) { return a.content.size() > b.content.size(); });
  }

  // What no single field says.
  void check() {
    const auto lacks = std::find(t_.byte_ids_.begin(), t_.byte_ids_.end(), -1);
    if (t_.over_bytes_ && is_bpe_ && lacks != t_.byte_ids_.end()) {
      root_.mistake("model",
                    fmt::format("the vocabulary has no token for the byte 0x{:02X}; a tokenizer over bytes has one for "
                                "each of the 256",
                                lacks - t_.byte_ids_.begin()));
    }
    if (!has_decoder_) {
      root_.mistake("decoder",
                    t_.over_bytes_ ? "is missing; built: ByteLevel" : "is missing; built: Replace, Metaspace");
    }
    if (t_.space_cut_ == Tokenizer::SpaceCut::none && t_.splits_.empty() && t_.id_of_.contains(kMetaspace) &&
        !t_.over_bytes_) {
      const bool reaches_over = std::any_of(ids_.begin(), ids_.end(), [](const auto& token) {
        for (std::size_t at = token.first.find(kMetaspace); at != std::string::npos;
             at = token.first.find(kMetaspace, at + 3)) {
          if (at > 0 && (at < 3 || token.first.compare(at - 3, 3, kMetaspace) != 0)) {
            return true;
          }
        }
        return false;
      });
      t_.space_cut_ = reaches_over ? Tokenizer::SpaceCut::none : Tokenizer::SpaceCut::run;
    }
  }

  ObjectReader root_;
  Tokenizer t_;
  std::unordered_map<std::string, Id> ids_;  // by what the file calls them
  std::vector<bool> is_used_;
  bool has_decoder_ = false, is_bpe_ = false;
};

namespace {

Tokenizer read(const JsonDocument& document) {
  Mistakes mistakes;
  Tokenizer tokenizer = TokenizerFile(document, mistakes).read();
  mistakes.throw_if_any();
  return tokenizer;
}

}  // namespace

Tokenizer Tokenizer::from_file(const std::string& path) {
  return read(JsonDocument::from_file(path));
}

Tokenizer Tokenizer::from_text(std::string_view text, std::string origin) {
  return read(JsonDocument::from_text(text, std::move(origin)));
}

}  // namespace foretrain::workloads
