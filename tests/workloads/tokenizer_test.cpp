#include "workloads/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/support/message_of.h"
#include "tests/support/tokenizer_files.h"

namespace foretrain::workloads {
namespace {

using nlohmann::json;
using test::byte_characters;
using test::byte_tokenizer;
using test::message_of;
using Ids = std::vector<Tokenizer::Id>;

Tokenizer read(const json& file) {
  return Tokenizer::from_text(file.dump(), "tokenizer.json");
}

std::string refusal(const json& file) {
  return message_of([&] { read(file); });
}

// "lower" and " low" are words of GPT-2's pattern. l o w e r: lo, then low, then er. " low": the same, then with the
// space.
TEST(Tokenizer, MergesWordByWord) {
  const Tokenizer t = read(byte_tokenizer({{"l", "o"}, {"lo", "w"}, {"e", "r"}, {" ", "low"}}));
  EXPECT_EQ(t.size(), 260);
  EXPECT_EQ(t.encode("lower low"), (Ids{257, 258, 259}));
  EXPECT_EQ(t.encode(""), Ids{});
  EXPECT_EQ(t.decode(Ids{257, 258, 259}), "lower low");
  EXPECT_EQ(t.bytes(259), " low");
  EXPECT_EQ(t.bytes(-1), "");
  EXPECT_EQ(t.bytes(260), "");
  EXPECT_EQ(t.decode(Ids{999, 'x', -5}), "x");
}

TEST(Tokenizer, LowestRankFirstThenTheLeftmost) {
  EXPECT_EQ(read(byte_tokenizer({{"a", "a"}})).encode("aaa"), (Ids{256, 'a'}));
  EXPECT_EQ(read(byte_tokenizer({{"b", "c"}, {"a", "b"}})).encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(read(byte_tokenizer({{"a", "b"}, {"b", "c"}})).encode("abc"), (Ids{256, 'c'}));
  // aa aa a: then the pair of pairs.
  EXPECT_EQ(read(byte_tokenizer({{"a", "a"}, {"aa", "aa"}})).encode("aaaaa"), (Ids{257, 'a'}));
}

TEST(Tokenizer, MergesAsTextsOrPairs) {
  json file = byte_tokenizer({{"a", "b"}, {" ", "ab"}});
  const Ids expected = read(file).encode("ab ab");
  EXPECT_EQ(expected, (Ids{256, 257}));
  file["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({byte_characters(" "), "ab"})});
  EXPECT_EQ(read(file).encode("ab ab"), expected);
}

TEST(Tokenizer, FindsAddedTokensTheLongestFirst) {
  json file = byte_tokenizer({{"<", "<"}});
  file["added_tokens"] = {{{"id", 300}, {"content", "<e>"}, {"special", true}},
                          {{"id", 301}, {"content", "<e>x"}, {"special", false}}};
  const Tokenizer t = read(file);
  EXPECT_EQ(t.size(), 302);
  EXPECT_EQ(t.encode("a<e>b<e>x<<"), (Ids{'a', 300, 'b', 301, 256}));
  EXPECT_EQ(t.decode(Ids{'a', 300, 'b', 301, 256}), "a<e>b<e>x<<");
}

TEST(Tokenizer, AWholeWordGoesBeforeMerges) {
  json file = byte_tokenizer({{"a", "b"}});
  file["model"]["vocab"]["abc"] = 257;
  EXPECT_EQ(read(file).encode("abc"), (Ids{256, 'c'}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(read(file).encode("abc"), Ids{257});
}

// Llama 3's way to say the same: a pattern, then bytes.
TEST(Tokenizer, CutsByAPattern) {
  json file = byte_tokenizer({{"1", "2"}, {"3", "4"}});
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "\\p{N}{1,3}|\\s+"}}}, {"behavior", "Isolated"}, {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  EXPECT_EQ(read(file).encode("1234"), (Ids{256, '3', '4'})) << "3 and 4 are in different pieces";
  file["pre_tokenizer"]["pretokenizers"].insert(file["pre_tokenizer"]["pretokenizers"].begin(),
                                                json::object({{"type", "Digits"}, {"individual_digits", true}}));
  EXPECT_EQ(read(file).encode("1234"), (Ids{'1', '2', '3', '4'}));
}

TEST(Tokenizer, RefusesTextThatANormalFormCouldChange) {
  json file = byte_tokenizer({});
  file["normalizer"] = {{"type", "NFC"}};
  const Tokenizer t = read(file);
  EXPECT_EQ(t.decode(t.encode("\xC3\xA9")), "\xC3\xA9");
  EXPECT_EQ(message_of([&] { t.encode("e\xCC\x81"); }),
            "tokenizer: tokenizer.json: wants text in normalisation form C, and this one has characters that the form "
            "may change; normalise it before (python3: unicodedata.normalize('NFC', text))");
}

// Any bytes come back.
TEST(Tokenizer, DecodesWhatItEncoded) {
  std::mt19937 random(5);
  const Tokenizer t = read(byte_tokenizer({{"a", "b"}, {"ab", "a"}, {" ", "ab"}, {"\xC3", "\xA9"}, {"\n", "\n"}}));
  const std::vector<std::string> parts{"a", "b", "ab", " ", "\n", "\xC3\xA9", "\xC3", "\xFF", "\0", "'s", "12"};
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (std::size_t n = random() % 20; n > 0; --n) {
      text += parts[random() % parts.size()];
    }
    EXPECT_EQ(t.decode(t.encode(text)), text);
  }
  std::string all;
  for (int b = 0; b < 256; ++b) {
    all += static_cast<char>(b);
  }
  EXPECT_EQ(t.decode(t.encode(all)), all);
}

// As Llama 2 has it: U+2581 for a space and before the text, characters, and bytes for those without a token. Ids: 0
// unknown, 1 to 256 the bytes, then U+2581, a, b, U+2581 a, ab.
json character_tokenizer() {
  const std::string space = "\xE2\x96\x81";
  json vocab{{"<unk>", 0}}, file;
  for (int b = 0; b < 256; ++b) {
    vocab[fmt::format("<0x{:02X}>", b)] = 1 + b;
  }
  vocab[space] = 257;
  vocab["a"] = 258;
  vocab["b"] = 259;
  vocab[space + "a"] = 260;
  vocab["ab"] = 261;
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Prepend"}, {"prepend", space}},
                          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}}}}};
  file["pre_tokenizer"] = nullptr;
  file["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  file["added_tokens"] = {{{"id", 0}, {"content", "<unk>"}, {"normalized", false}, {"special", true}}};
  file["model"] = {{"type", "BPE"},         {"unk_token", "<unk>"}, {"fuse_unk", true},
                   {"byte_fallback", true}, {"vocab", vocab},       {"merges", {space + " a", "a b"}}};
  return file;
}

TEST(Tokenizer, OverCharactersWithBytes) {
  const Tokenizer t = read(character_tokenizer());
  EXPECT_EQ(t.encode("a b"), (Ids{260, 257, 259}));  // _a _ b
  EXPECT_EQ(t.encode("bab"), (Ids{257, 259, 261}));  // _ b ab
  EXPECT_EQ(t.encode("\xC3\xA9"), (Ids{257, 1 + 0xC3, 1 + 0xA9}));
  EXPECT_EQ(t.encode("a<unk>a"), (Ids{260, 0, 260})) << "each part between added tokens is a text";
  EXPECT_EQ(t.encode(""), Ids{});
  for (const char* text : {"a b", " a", "  ab  ab ", "\xC3\xA9 \xFF", "\n"}) {
    EXPECT_EQ(t.decode(t.encode(text)), text);
  }
}

// Where a token reaches over "a " the text may not be cut there.
TEST(Tokenizer, OverCharactersTokensMayReachOverSpaces) {
  json file = character_tokenizer();
  file["model"]["vocab"]["a\xE2\x96\x81"] = 262;
  file["model"]["merges"] = {"a \xE2\x96\x81"};
  EXPECT_EQ(read(file).encode("a a"), (Ids{257, 262, 258}));
}

TEST(Tokenizer, OverCharactersWithoutBytes) {
  json file = character_tokenizer();
  file["model"]["byte_fallback"] = false;
  EXPECT_EQ(read(file).encode("xyaz"), (Ids{257, 0, 258, 0}));
  file["model"]["fuse_unk"] = false;
  EXPECT_EQ(read(file).encode("xya"), (Ids{257, 0, 0, 258}));
  file["model"].erase("unk_token");
  EXPECT_EQ(message_of([&] { read(file).encode("x"); }),
            "tokenizer: tokenizer.json: has no token for the character U+0078, none for its bytes and none for what it "
            "does not know");
}

TEST(Tokenizer, Metaspace) {
  json file = character_tokenizer();
  file.erase("normalizer");
  file["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}, {"prepend_scheme", "first"}, {"split", false}};
  file["decoder"] = {{"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}, {"prepend_scheme", "first"}};
  EXPECT_EQ(read(file).encode("a<unk>a a"), (Ids{260, 0, 258, 260}));
  EXPECT_EQ(read(file).decode(Ids{260, 0, 258, 260}), "a<unk>a a");
}

TEST(Tokenizer, RefusesWhatIsNotBuiltByName) {
  json file = byte_tokenizer({});
  file["model"]["type"] = "Unigram";
  EXPECT_EQ(refusal(file), "tokenizer.json:1: /model/type: \"Unigram\" is not built yet; built: BPE");
  file = byte_tokenizer({});
  file["normalizer"] = {{"type", "Lowercase"}};
  EXPECT_EQ(refusal(file),
            "tokenizer.json:1: /normalizer/type: \"Lowercase\" is not built yet; built: NFC, Prepend, Replace");
  file = byte_tokenizer({});
  file["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(refusal(file),
            "tokenizer.json:1: /pre_tokenizer/add_prefix_space: true, its default, is not built yet; "
            "expected false");
  file = byte_tokenizer({});
  file["added_tokens"] = {{{"id", 300}, {"content", "<e>"}, {"lstrip", true}}};
  EXPECT_EQ(refusal(file), "tokenizer.json:1: /added_tokens/0/lstrip: true is not built yet; expected false");
}

TEST(Tokenizer, RefusesWhatCannotBe) {
  json file = byte_tokenizer({});
  file["model"]["vocab"].erase("a");
  EXPECT_EQ(refusal(file),
            "tokenizer.json:1: /model: the vocabulary has no token for the byte 0x61; a tokenizer over "
            "bytes has one for each of the 256");
  file = byte_tokenizer({});
  file["model"]["merges"] = {"a b", "a", 7};
  EXPECT_EQ(refusal(file),
            "tokenizer.json:1: /model/merges: entry 0: \"ab\" is no token of the vocabulary\n"
            "tokenizer.json:1: /model/merges: entry 1: \"a\" is not allowed; expected \"left right\" or [\"left\", "
            "\"right\"]\n"
            "tokenizer.json:1: /model/merges: entry 2: 7 is not allowed; expected \"left right\" or [\"left\", "
            "\"right\"]");
  file = byte_tokenizer({{"a", "b"}});
  file["model"]["vocab"]["ab"] = 97;
  EXPECT_EQ(refusal(file),
            "tokenizer.json:1: /model/vocab: \"ab\": the id 97 is another token's, too\n"
            "tokenizer.json:1: /model/merges: entry 0: \"ab\" is no token of the vocabulary");
  file = byte_tokenizer({{"a", "b"}});
  file["model"]["merges"].push_back("a b");
  EXPECT_EQ(refusal(file), "tokenizer.json:1: /model/merges: entry 1: \"a b\" stands here a second time");
  file = byte_tokenizer({});
  file["added_tokens"] = {{{"id", 98}, {"content", "a"}}, {{"id", 99}, {"content", "new"}}};
  EXPECT_EQ(refusal(file),
            "tokenizer.json:1: /added_tokens/0/id: 98 is not allowed: the vocabulary has this token otherwise\n"
            "tokenizer.json:1: /added_tokens/1/id: 99 is not allowed: the vocabulary has this id otherwise");
  file = byte_tokenizer({});
  file.erase("decoder");
  EXPECT_EQ(refusal(file), "tokenizer.json:1: /decoder: is missing; built: ByteLevel");
  for (const char* text : {"", "{}", "[]", "7", R"({"model": 3})", R"({"model": {"vocab": {}, "merges": []}})"}) {
    EXPECT_NE(message_of([&] { Tokenizer::from_text(text, "tokenizer.json"); }), "no error") << text;
  }
}

}  // namespace
}  // namespace foretrain::workloads
