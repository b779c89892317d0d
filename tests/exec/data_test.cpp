#include "exec/data.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

#include "base/error.h"

namespace foretrain::exec {
namespace {

std::string message_of(const std::function<void()>& fn) {
  try {
    fn();
  } catch (const InputError& e) {
    return e.what();
  }
  return "no InputError";
}

Text alphabet(int bytes) {
  Text text{"alphabet", {}};
  for (int i = 0; i < bytes; ++i) {
    text.bytes += static_cast<char>('a' + i % 26);
  }
  return text;
}

TEST(Text, LastTenthIsForValidation) {
  const Text text = alphabet(105);
  EXPECT_EQ(text.training().size(), 95U);  // 105 - 105 / 10
  EXPECT_EQ(text.validation().size(), 10U);
  EXPECT_EQ(std::string(text.training()) + std::string(text.validation()), text.bytes);
}

TEST(Text, ReadsAFileByteForByte) {
  const std::string path = ::testing::TempDir() + "bytes.txt";
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i);
  }
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(load_text(path).bytes, bytes);
}

TEST(Text, BuiltInTextIsRealEnglish) {
  const Text text = load_text("");
  EXPECT_GT(text.bytes.size(), 100'000U);
  EXPECT_NE(text.bytes.find("GNU GENERAL PUBLIC LICENSE"), std::string::npos);
  EXPECT_EQ(text.bytes, load_text("").bytes);
}

TEST(Text, RefusesWhatIsNoFile) {
  EXPECT_EQ(message_of([] { load_text("/nowhere/text"); }), "data: /nowhere/text: no such file; expected a text file");
  EXPECT_EQ(message_of([] { load_text("/tmp"); }), "data: /tmp: not a regular file; expected a text file");
  EXPECT_EQ(message_of([] { load_text("/dev/zero"); }), "data: /dev/zero: not a regular file; expected a text file");
}

TEST(TextWindows, SaysHowManyBytesAreNeeded) {
  const Text text = alphabet(100);
  EXPECT_EQ(
      message_of([&] { training_windows(text, 16, 8, 256, 1); }),
      "data: alphabet: 100 bytes are too few: its training part has 90 bytes, and 8 sequences of 16 tokens need 129");
  EXPECT_EQ(
      message_of([&] { TextWindows(text, text.validation(), 16, 1, 256, TextWindows::Order::as_written, 0); }),
      "data: alphabet: 100 bytes are too few: its validation part has 10 bytes, and 1 sequence of 16 tokens need 17");
  const Text empty{"empty", ""};
  EXPECT_NE(message_of([&] { training_windows(empty, 1, 1, 256, 1); }), "no InputError");
}

TEST(TextWindows, ExactlyEnoughIsEnough) {
  Text text = alphabet(8);  // 8 - 8 / 10 = 8 bytes for training: one sequence of 7
  EXPECT_EQ(training_windows(text, 7, 1, 256, 1).windows(), 1);
  EXPECT_NE(message_of([&] { training_windows(text, 8, 1, 256, 1); }), "no InputError");
}

TEST(TextWindows, RefusesASmallVocabulary) {
  const Text text = alphabet(100);
  EXPECT_EQ(message_of([&] { training_windows(text, 4, 1, 255, 1); }),
            "model: a vocabulary of 255 cannot hold bytes as tokens; expected vocab >= 256");
}

// 90 training bytes in windows of 4: 22 windows, 4 steps of 5 per epoch, two windows left out.
TEST(TextWindows, AnEpochTakesEachWindowAtMostOnce) {
  const Text text = alphabet(100);
  const TextWindows windows = training_windows(text, 4, 5, 256, 3);
  ASSERT_EQ(windows.windows(), 22);
  ASSERT_EQ(windows.steps_per_epoch(), 4);
  std::vector<std::vector<std::vector<std::int32_t>>> epochs(3);
  for (std::int64_t step = 0; step < 12; ++step) {
    for (std::int64_t i = 0; i < 5; ++i) {
      std::vector<std::int32_t> ids(5);
      windows.sequence(step, i, 4, ids.data());
      // A window of the alphabet: each byte the next letter.
      for (int k = 1; k < 5; ++k) {
        EXPECT_EQ(ids[static_cast<std::size_t>(k)], 'a' + (ids[static_cast<std::size_t>(k) - 1] - 'a' + 1) % 26);
      }
      epochs[static_cast<std::size_t>(step / 4)].push_back(ids);
    }
  }
  // Windows start every 4 bytes of a text of period 26, so that windows 0 and 13 look alike, and no two nearer ones.
  for (const auto& epoch : epochs) {
    const std::set<std::vector<std::int32_t>> distinct(epoch.begin(), epoch.end());
    EXPECT_GE(distinct.size(), 11U);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(TextWindows, DependOnTheSeedAlone) {
  const Text text = alphabet(1000);
  const TextWindows a = training_windows(text, 4, 5, 256, 3), b = training_windows(text, 4, 5, 256, 3),
                    c = training_windows(text, 4, 5, 256, 4);
  bool differs = false;
  for (std::int64_t i = 0; i < 5; ++i) {
    std::vector<std::int32_t> x(5), y(5), z(5);
    a.sequence(7, i, 4, x.data());
    b.sequence(7, i, 4, y.data());
    c.sequence(7, i, 4, z.data());
    EXPECT_EQ(x, y);
    differs = differs || x != z;
  }
  EXPECT_TRUE(differs);
}

TEST(Permuted, IsAPermutationOfAnySize) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 17, 64, 257, 1000}) {
    std::vector<std::int64_t> seen;
    for (std::int64_t i = 0; i < size; ++i) {
      seen.push_back(permuted(i, size, 42));
    }
    std::sort(seen.begin(), seen.end());
    std::vector<std::int64_t> all(static_cast<std::size_t>(size));
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, all) << size;
  }
}

// Training part "aaaaaaaaaaaaaaaaaa" (18 bytes), validation part "ab": each byte counted once more, of 18 + 256 = 274
// in all. a: 19 / 274, b: 1 / 274; the mean of -ln of both.
TEST(UnigramLoss, IsTheCrossEntropyOfByteFrequencies) {
  const Text text{"t", std::string(18, 'a') + "ab"};
  EXPECT_DOUBLE_EQ(unigram_loss(text), -(std::log(19.0 / 274.0) + std::log(1.0 / 274.0)) / 2);
}

}  // namespace
}  // namespace foretrain::exec
