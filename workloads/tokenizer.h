// Text to token ids and back, as a tokenizer.json of Hugging Face's tokenizers library says it: byte pair encoding over
// bytes (GPT-2, Llama 3, Qwen, …) or over characters with bytes for those it does not know (Llama 2, Mistral, …).
//
// Built: the model "BPE"; normalizers Prepend, Replace of a text, NFC (text that NFC could change is refused);
// pre-tokenizers ByteLevel, Split by a pattern of workloads/split_pattern.h in the manner Isolated, Digits, Metaspace;
// decoders ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace; sequences of them. The rest is refused by name.
// Added tokens are found in the text, special ones too. Post-processors are not applied: no token is put before or
// behind a text.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "workloads/bpe.h"
#include "workloads/split_pattern.h"

namespace foretrain::workloads {

class Tokenizer {
 public:
  using Id = Bpe::Id;

  // Throws InputError with every mistake: file, line, place, what stood there, what is built.
  static Tokenizer from_file(const std::string& path);
  static Tokenizer from_text(std::string_view text, std::string origin);

  // decode(encode(text)) == text, for any bytes, of a tokenizer over bytes; over characters, where the text has no
  // U+2581 (which stands for a space). Throws InputError for text that NFC could change, where the tokenizer wants NFC,
  // and for a character that it has no token for.
  std::vector<Id> encode(std::string_view text) const;
  // Ids without a token stand for nothing.
  std::string decode(std::span<const Id> ids) const;

  const std::string& name() const { return name_; }
  std::int64_t size() const { return std::ssize(tokens_); }  // ids are below
  // The bytes that a token stands for inside a text.
  std::string_view bytes(Id id) const;

 private:
  friend class TokenizerFile;

  // Metaspace puts its character before a text: always, before the first part only, or never.
  enum class Prepend : std::uint8_t { always, first, never };
  struct AddedToken {
    std::string content;
    Id id = 0;
  };
  using WordCache = std::unordered_map<std::string, std::vector<Id>>;

  void encode_part(std::string_view part, bool first, WordCache& words, std::vector<Id>& out) const;
  void encode_word(std::string_view word, std::vector<Id>& out) const;
  std::vector<Id> symbols(std::string_view word) const;
  std::string normalized(std::string_view part, bool first) const;

  std::string name_;
  bool over_bytes_ = true;
  bool wants_nfc_ = false;
  bool ignores_merges_ = false;  // a word that is a token is that token
  // Where a text over characters may be cut before its metaspaces: nowhere; before a run of them, which saves time and
  // changes nothing where no token reaches over such a place; before each.
  enum class SpaceCut : std::uint8_t { none, run, each };
  SpaceCut space_cut_ = SpaceCut::none;
  std::vector<std::pair<std::string, std::string>> replacements_;
  std::string prepended_;
  Prepend prepend_ = Prepend::always;
  bool prepends_once_ = false;  // not to what begins with it
  bool strips_space_ = false;   // of decoded text, the first one
  std::vector<SplitPattern> splits_;

  Bpe bpe_;
  std::unordered_map<std::string, Id> id_of_;  // without added tokens; keys are bytes
  std::vector<std::string> tokens_;            // the bytes of each id
  std::array<Id, 256> byte_ids_{};
  std::optional<Id> unknown_;
  bool fuses_unknown_ = false;
  std::vector<AddedToken> added_;  // longest first
};

}  // namespace foretrain::workloads
