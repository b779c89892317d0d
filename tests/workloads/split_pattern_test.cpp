#include "workloads/split_pattern.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/message_of.h"
#include "workloads/unicode.h"

namespace foretrain::workloads {
namespace {

using test::message_of;
using Pieces = std::vector<std::string_view>;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// The pattern of gpt-oss.
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Of two spaces the second goes with the word; of line ends before a space all go together.
TEST(SplitPattern, Gpt2) {
  const SplitPattern pattern(kGpt2Pattern);
  EXPECT_EQ(pattern.split("Hello  world's 3rd\n\n x"),
            (Pieces{"Hello", " ", " world", "'s", " 3", "rd", "\n\n", " x"}));
  EXPECT_EQ(pattern.split("IT'S 12345 \xC3\xA9t\xC3\xA9 \xE2\x82\xAC!  "),
            (Pieces{"IT", "'", "S", " 12345", " \xC3\xA9t\xC3\xA9", " \xE2\x82\xAC!", "  "}));
  EXPECT_EQ(pattern.split(""), Pieces{});
}

TEST(SplitPattern, Llama3) {
  const SplitPattern pattern(kLlama3);
  EXPECT_EQ(pattern.split("I'LL pay 12345 \xE2\x82\xAC!\n(well)"),
            (Pieces{"I", "'LL", " pay", " ", "123", "45", " \xE2\x82\xAC!\n", "(well", ")"}));
  EXPECT_EQ(pattern.split("a \n\n  b"), (Pieces{"a", " \n\n", " ", " b"}));
  EXPECT_EQ(pattern.split("x'\xC5\xBF"), (Pieces{"x", "'\xC5\xBF"})) << "the long s is an s in another case";
}

TEST(SplitPattern, O200k) {
  // Words end where a capital follows small letters, and keep their contraction.
  const SplitPattern pattern(kO200k);
  EXPECT_EQ(pattern.split("camelCase don't HTTP a/b/\n"),
            (Pieces{"camel", "Case", " don't", " HTTP", " a", "/b", "/\n"}));
}

TEST(SplitPattern, WhatDoesNotMatchIsAPieceToo) {
  EXPECT_EQ(SplitPattern(R"(\p{N})").split("ab12c"), (Pieces{"ab", "1", "2", "c"}));
  EXPECT_EQ(SplitPattern("x*").split("axxb"), (Pieces{"a", "xx", "b"})) << "an empty match is none";
  EXPECT_EQ(SplitPattern("a(?:bc)?d").split("abcdadab"), (Pieces{"abcd", "ad", "ab"}));
  EXPECT_EQ(SplitPattern("(ab|a)c").split("acabc"), (Pieces{"ac", "abc"}));
  EXPECT_EQ(SplitPattern("[a-c\\-]{2,}").split("a-cxb"), (Pieces{"a-c", "xb"}));
  EXPECT_EQ(SplitPattern("a{2}").split("aaaaa"), (Pieces{"aa", "aa", "a"}));
  EXPECT_EQ(SplitPattern("[^a]").split("ab\xFF"), (Pieces{"a", "b", "\xFF"}));
}

TEST(SplitPattern, RefusesByName) {
  const std::string built =
      " is not built yet; built: characters, [classes], \\s \\S \\d \\p{L} and kin, | (?: ) (?i: ) (?! ), ? * + {m,n}";
  EXPECT_EQ(message_of([] { SplitPattern("a+?"); }), "a lazy, possessive or double repetition at character 2" + built);
  EXPECT_EQ(message_of([] { SplitPattern("^a"); }), "\"^\" at character 0" + built);
  EXPECT_EQ(message_of([] { SplitPattern("(?<=a)b"); }), "this kind of group at character 1" + built);
  EXPECT_EQ(message_of([] { SplitPattern("\\p{Han}"); }), "this property at character 2" + built);
  EXPECT_EQ(message_of([] { SplitPattern("\\b"); }), "\\b at character 2" + built);
  for (const char* wrong : {"(", ")", "[", "[a", "a{", "a{2", "a{3,2}", "*", "(a", "(ab)+", "[[a]]", "\\", "\\p",
                            "\\pL", "a**", "[b-a]", "[\\s-a", "(?!a)?"}) {
    EXPECT_NE(message_of([&] { SplitPattern{wrong}; }), "no error") << wrong;
  }
}

// Any bytes: the pieces are the text, and none is empty.
TEST(SplitPattern, LosesNothing) {
  std::mt19937 random(7);
  const std::vector<std::string> parts{"a",
                                       "Zz",
                                       " ",
                                       "  ",
                                       "\n",
                                       "\r\n",
                                       "'s",
                                       "'LL",
                                       "12",
                                       "3",
                                       "\xC3",
                                       "!",
                                       "\xFF",
                                       "\xC3\xA9",
                                       "\xE2\x82",
                                       "\t",
                                       "\xF0\x9F\x98\x80"};
  for (const char* expression : {kGpt2Pattern, kLlama3, kO200k, R"(\p{L}+)"}) {
    const SplitPattern pattern(expression);
    for (int i = 0; i < 200; ++i) {
      std::string text, joined;
      for (std::size_t n = random() % 12; n > 0; --n) {
        text += parts[random() % parts.size()];
      }
      for (const std::string_view piece : pattern.split(text)) {
        EXPECT_FALSE(piece.empty());
        joined += piece;
      }
      EXPECT_EQ(joined, text);
    }
  }
}

TEST(CodePoint, OfWellFormedTextOnly) {
  const auto of = [](std::string_view text) {
    const CodePoint c = code_point(text, 0);
    return std::pair(c.value, c.bytes);
  };
  EXPECT_EQ(of("A"), std::pair(U'A', std::size_t{1}));
  EXPECT_EQ(of("\xC3\xA9"), std::pair(U'\u00E9', std::size_t{2}));
  EXPECT_EQ(of("\xE2\x82\xAC"), std::pair(U'\u20AC', std::size_t{3}));
  EXPECT_EQ(of("\xF0\x9F\x98\x80"), std::pair(U'\U0001F600', std::size_t{4}));
  // Cut off, overlong, a surrogate, beyond the last, a byte that begins nothing.
  for (const char* wrong : {"\xC3", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80", "\xFF"}) {
    EXPECT_EQ(of(wrong), std::pair(kNoCodePoint, std::size_t{1})) << wrong;
  }
  for (const char32_t c : {U'\0', U'A', U'\u00E9', U'\u20AC', U'\U0001F600', U'\U0010FFFF'}) {
    EXPECT_EQ(of(to_utf8(c)).first, c);
  }
}

TEST(CodePoint, PreviousUndoesTheWalk) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xC3\x80\x80\xFF";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t next = at + code_point(text, at).bytes;
    EXPECT_EQ(previous(text, 0, next), at);
    at = next;
  }
}

TEST(Category, OfAFew) {
  EXPECT_EQ(category(U'A'), Category::upper);
  EXPECT_EQ(category(U'z'), Category::lower);
  EXPECT_EQ(category(U'\u01C5'), Category::title);         // Dz with caron
  EXPECT_EQ(category(U'\u02B0'), Category::modifier);      // a raised h
  EXPECT_EQ(category(U'\u4E00'), Category::other_letter);  // one, in Chinese
  EXPECT_EQ(category(U'\u0301'), Category::mark);          // a combining acute accent
  EXPECT_EQ(category(U'\u00BD'), Category::number);        // one half
  EXPECT_EQ(category(U'!'), Category::punctuation);
  EXPECT_EQ(category(U'$'), Category::symbol);
  EXPECT_EQ(category(U' '), Category::separator);
  EXPECT_EQ(category(U'\n'), Category::other);
  EXPECT_EQ(category(U'\U0010FFFF'), Category::other);
  EXPECT_EQ(category(kNoCodePoint), Category::other);
}

TEST(Nfc, KnowsWhatItCouldChange) {
  EXPECT_FALSE(may_change_in_nfc("plain"));
  EXPECT_FALSE(may_change_in_nfc("\xC3\xA9"));                 // e with acute, composed
  EXPECT_TRUE(may_change_in_nfc("e\xCC\x81"));                 // e, then a combining acute
  EXPECT_TRUE(may_change_in_nfc("\xE2\x84\xAB"));              // the Angstrom sign is A with ring
  EXPECT_FALSE(may_change_in_nfc("\xEA\xB0\x80"));             // a Hangul syllable
  EXPECT_TRUE(may_change_in_nfc("\xE1\x84\x80\xE1\x85\xA1"));  // the same in parts
}

}  // namespace
}  // namespace foretrain::workloads
