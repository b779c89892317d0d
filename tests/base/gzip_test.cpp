#include "base/gzip.h"

#include <gtest/gtest.h>

#include <istream>
#include <iterator>

#include "base/error.h"
#include "tests/support/gzip.h"

namespace foretrain {
namespace {

std::string inflated(const std::string& bytes) {
  GzipBuffer buffer(bytes, "a.gz");
  return {std::istreambuf_iterator<char>(&buffer), {}};
}

std::string refusal(const std::string& bytes) {
  try {
    inflated(bytes);
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

// Larger than a piece, and not alike all over.
std::string long_text() {
  std::string text;
  for (int i = 0; text.size() < 3'000'000; ++i) {
    text += std::to_string(std::int64_t{i} * 7919) + ' ';
  }
  return text;
}

TEST(Gzip, GivesBackWhatWasCompressed) {
  const std::string text = long_text();
  EXPECT_EQ(inflated(gzip_of(text)), text);
  EXPECT_EQ(inflated(gzip_of("")), "");
  EXPECT_EQ(inflated(gzip_of("one ") + gzip_of("") + gzip_of("two")), "one two");
  EXPECT_EQ(inflated(gzip_of(text) + std::string(512, '\0')), text);  // as archivers fill blocks
}

TEST(Gzip, NamesWhatIsTruncatedOrDamaged) {
  const std::string whole = gzip_of(long_text());
  EXPECT_EQ(refusal(whole.substr(0, whole.size() / 2)),
            "a.gz: ends before its stream does; expected a whole gzip file");
  EXPECT_EQ(refusal(whole.substr(0, whole.size() - 1)),
            "a.gz: ends before its stream does; expected a whole gzip file");
  std::string damaged = whole;
  damaged[damaged.size() - 5] ^= 1;  // of the checksum, in the last 8 bytes
  EXPECT_EQ(refusal(whole + "more"), "a.gz: has something else behind its stream; expected a whole gzip file");
  EXPECT_EQ(refusal(damaged), "a.gz: incorrect data check; expected a whole gzip file");
  EXPECT_EQ(refusal("hello"), "a.gz: incorrect header check; expected a whole gzip file");
}

}  // namespace
}  // namespace foretrain
