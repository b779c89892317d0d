#include "exec/data.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"
#include "exec/load_tokens.h"
#include "exec/permutation.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tokenizer_files.h"

namespace foretrain::exec {
namespace {

using test::message_of;

Text alphabet(int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    text += static_cast<char>('a' + i % 26);
  }
  return text_of("alphabet", text);
}

Text load(const std::string& path) {
  workloads::DataSpec data;
  data.path = path;
  return load_text(data);
}

std::string bytes_of(const Text& text) {
  std::string all;
  for (const workloads::Tokens* part : {&text.training, &text.validation}) {
    for (std::int64_t i = 0; i < part->size(); ++i) {
      all += text.bytes((*part)[i]);
    }
  }
  return all;
}

// Ids 0 to 255 are the bytes; 256 is "ab", 257 "abab".
std::string small_tokenizer() {
  return test::byte_tokenizer({{"a", "b"}, {"ab", "ab"}}).dump();
}

TEST(Text, LastTenthIsForValidation) {
  const Text text = alphabet(105);
  EXPECT_EQ(text.training.size(), 95);  // 105 - 105 / 10
  EXPECT_EQ(text.validation.size(), 10);
  EXPECT_EQ(bytes_of(text).substr(90, 10), "mnopqrstuv");  // 90 = 3 x 26 + 12
}

TEST(Text, ReadsAFileByteForByte) {
  const test::TemporaryFolder folder;
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i);
  }
  folder.write("bytes.txt", bytes);
  EXPECT_EQ(bytes_of(load(folder.path("bytes.txt"))), bytes);
  folder.write("empty.txt", "");
  EXPECT_EQ(bytes_of(load(folder.path("empty.txt"))), "");
}

TEST(Text, AFolderIsItsFilesInOrder) {
  const test::TemporaryFolder folder;
  folder.write("texts/b", "second ");
  folder.write("texts/a", "first ");
  folder.write("texts/c", "third");
  folder.write("texts/.hidden", "not this");
  folder.write("texts/inner/d", "nor this");
  EXPECT_EQ(bytes_of(load(folder.path("texts"))), "first second third");
  folder.write("ids/a.txt", "text");
  folder.write("ids/b.bin", std::string("\x38\xD9\x34\x01", 4));  // 20240696: no magic number
  EXPECT_EQ(message_of([&] { load(folder.path("ids")); }).substr(0, 34 + folder.path("ids").size()),
            "data: " + folder.path("ids") + "/b.bin: begins with 20240696");
  const auto llmc = [](const std::string& ids) {
    return std::string("\x88\xD8\x34\x01\x01\0\0\0", 8) + static_cast<char>(ids.size() / 2) + std::string(1015, '\0') +
           ids;
  };
  folder.write("ids/b.bin", llmc(std::string("\x05\0", 2)));
  EXPECT_EQ(message_of([&] { load(folder.path("ids")); }),
            "data: " + folder.path("ids/a.txt") +
                ": is text, and files of token ids stand beside it; expected one or the other");
  folder.write("shards/1.bin", llmc(std::string("\x05\0\x06\0", 4)));
  folder.write("shards/2.bin", llmc(std::string("\x07\0", 2)));
  const Text shards = load(folder.path("shards"));
  ASSERT_EQ(shards.training.size(), 3);
  EXPECT_EQ(shards.training[1], 6);
  EXPECT_EQ(shards.training[2], 7);
  EXPECT_EQ(shards.ids, 8);
  EXPECT_EQ(message_of([&] { load(folder.path("texts/inner/d") + "/x"); }),
            "data: " + folder.path("texts/inner/d/x") + ": no such file; expected a file, or a folder of such files");
}

TEST(Text, BuiltInTextIsRealEnglish) {
  const std::string text = bytes_of(load(""));
  EXPECT_GT(text.size(), 100'000U);
  EXPECT_NE(text.find("GNU GENERAL PUBLIC LICENSE"), std::string::npos);
}

TEST(Text, RefusesWhatIsNoFile) {
  EXPECT_EQ(message_of([] { load("/nowhere/text"); }),
            "data: /nowhere/text: no such file; expected a file, or a folder of such files");
  EXPECT_EQ(message_of([] { load("/dev/zero"); }),
            "data: /dev/zero: not a regular file; expected a file, or a folder of such files");
}

TEST(Text, OfATokenizer) {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", small_tokenizer());
  folder.write("text", "ababab\xFF");
  folder.write("more", "abc");
  workloads::DataSpec data;
  data.path = folder.path("text");
  data.tokenizer = folder.path("");  // the folder that holds it
  data.validation = folder.path("more");
  const Text text = load_text(data);
  EXPECT_EQ(text.ids, 258);
  ASSERT_EQ(text.training.size(), 3);
  EXPECT_EQ(text.training[0], 257);
  EXPECT_EQ(text.training[1], 256);
  EXPECT_EQ(text.training[2], 255);
  ASSERT_EQ(text.validation.size(), 2);
  EXPECT_EQ(text.validation[0], 256);
  EXPECT_EQ(bytes_per_id(text), 1.5);  // "ab" and "c"
  EXPECT_EQ(bytes_of(text),
            "ababab\xFF"
            "abc");
  EXPECT_EQ(message_of([&] { training_windows(text, 2, 1, 257, 1); }),
            "model: a vocabulary of 257 cannot hold the tokens of " + folder.path("tokenizer.json") +
                "; expected vocab >= 258");
  EXPECT_EQ(training_windows(text, 2, 1, 258, 1).windows(), 1);
}

TEST(Text, OfTokenIds) {
  const test::TemporaryFolder folder;
  folder.write("ids", std::string("\x01\x00\x02\x00\x2C\x01", 6) + std::string(14, '\0'));  // 1, 2, 300 and seven 0
  workloads::DataSpec data;
  data.path = folder.path("ids");
  data.format = workloads::DataFormat::uint16;
  const Text text = load_text(data);
  EXPECT_EQ(text.ids, 301);
  EXPECT_FALSE(text.is_bytes);
  EXPECT_EQ(bytes_per_id(text), std::nullopt);
  EXPECT_EQ(
      message_of([&] { training_windows(text, 2, 1, 300, 1); }),
      "data: " + data.path + ": token 2 of its training part is 300; the model's vocabulary has ids from 0 to 299");
  EXPECT_EQ(message_of([&] { training_windows(text, 9, 1, 301, 1); }),
            "data: " + data.path +
                ": 10 tokens are too few: its training part has 9 tokens, and 1 sequence of 9 tokens need 10");
  data.validation = folder.path("ids");
  data.tokenizer = folder.path("tokenizer.json");
  folder.write("tokenizer.json", small_tokenizer());
  EXPECT_EQ(message_of([&] { load_text(data); }),
            "data: " + data.path + " through " + data.tokenizer +
                ": token 2 of its training part is 300; the model's vocabulary has ids from 0 to 257");
}

TEST(TextWindows, SaysHowManyBytesAreNeeded) {
  const Text text = alphabet(100);
  EXPECT_EQ(
      message_of([&] { training_windows(text, 16, 8, 256, 1); }),
      "data: alphabet: 100 bytes are too few: its training part has 90 bytes, and 8 sequences of 16 tokens need 129");
  EXPECT_EQ(
      message_of([&] { TextWindows(text, TextWindows::Part::validation, 16, 1, 256, kAsWritten, 0); }),
      "data: alphabet: 100 bytes are too few: its validation part has 10 bytes, and 1 sequence of 16 tokens need 17");
  const Text empty = text_of("empty", "");
  EXPECT_NE(message_of([&] { training_windows(empty, 1, 1, 256, 1); }), "no error");
}

TEST(TextWindows, ExactlyEnoughIsEnough) {
  Text text = alphabet(8);  // 8 - 8 / 10 = 8 bytes for training: one sequence of 7
  EXPECT_EQ(training_windows(text, 7, 1, 256, 1).windows(), 1);
  EXPECT_NE(message_of([&] { training_windows(text, 8, 1, 256, 1); }), "no error");
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
  ASSERT_EQ(windows.epochs().steps(), 4);
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

// The same 22 windows, none left out: step 4 has the last two of the first epoch and three of the second. Sequence n of
// the run is window n mod 22 of epoch n / 22, whatever the step: five epochs are 22 steps.
TEST(TextWindows, WrappedEpochsHaveEachWindowOnce) {
  Text text = alphabet(100);
  text.last_batch = workloads::LastBatch::wrap;
  const TextWindows windows = training_windows(text, 4, 5, 256, 3);
  EXPECT_EQ(windows.epochs().left_over(), 2);
  // 4 x 22 letters and one more: of each epoch the same windows, in some order.
  std::vector<std::multiset<std::vector<std::int32_t>>> epochs(5);
  for (std::int64_t n = 0; n < 110; ++n) {
    std::vector<std::int32_t> ids(5);
    windows.sequence(n / 5, n % 5, 4, ids.data());
    epochs[static_cast<std::size_t>(n / 22)].insert(ids);
  }
  for (const auto& epoch : epochs) {
    EXPECT_EQ(epoch, epochs[0]);
    EXPECT_EQ(epoch.size(), 22U);
  }
}

// Which window of the alphabet it is: each begins with a letter of its own, as there are 6 of them.
std::int64_t window_of(const TextWindows& windows, std::int64_t step, std::int64_t index) {
  std::vector<std::int32_t> ids(5);
  windows.sequence(step, index, 4, ids.data());
  return (ids[0] - 'a') / 4;
}

// 28 bytes, of which 26 train: 6 windows of 4, two at a time, in order, three steps an epoch.
TEST(TextWindows, SequentialOnesComeAsTheyAreWritten) {
  const Text text = alphabet(28);
  const TextWindows windows = training_windows(text, 4, 2, 256, 3, kAsWritten);
  for (std::int64_t step = 0; step < 6; ++step) {
    for (std::int64_t i = 0; i < 2; ++i) {
      EXPECT_EQ(window_of(windows, step, i), step % 3 * 2 + i);
    }
  }
}

TEST(TextWindows, NotReshuffledEpochsAreTheSame) {
  const Text text = alphabet(28);
  const TextWindows windows = training_windows(text, 4, 2, 256, 3, {workloads::Distribution::random, false});
  for (std::int64_t step = 0; step < 3; ++step) {
    for (std::int64_t i = 0; i < 2; ++i) {
      EXPECT_EQ(window_of(windows, step, i), window_of(windows, step + 3, i));
    }
  }
}

// Two ranks of one sequence per microbatch: sequence i of a step is rank i mod 2's. Of the 6 windows rank 0 has 0 to 2
// and rank 1 the others, each of them once in an epoch, of a step of two, three steps. A text of 5 windows loses one.
TEST(TextWindows, BlocksAreTheRanksOwn) {
  for (const bool reshuffles : {true, false}) {
    const Text text = alphabet(28);
    const TextWindows windows =
        training_windows(text, 4, 2, 256, 3, {workloads::Distribution::block, reshuffles, 2, 1});
    EXPECT_EQ(windows.epochs().steps_of(4), 12);
    std::set<std::vector<std::int64_t>> orders;
    for (std::int64_t epoch = 0; epoch < 8; ++epoch) {
      for (std::int64_t rank = 0; rank < 2; ++rank) {
        std::vector<std::int64_t> order;
        for (std::int64_t step = 0; step < 3; ++step) {
          order.push_back(window_of(windows, epoch * 3 + step, rank) - 3 * rank);
        }
        orders.insert(order);
        std::sort(order.begin(), order.end());
        EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2}));
      }
    }
    EXPECT_TRUE(reshuffles ? orders.size() > 2 : orders.size() <= 2);
  }
  EXPECT_EQ(training_windows(alphabet(24), 4, 2, 256, 3, {workloads::Distribution::block, true, 2, 1}).windows(), 4);
}

// Of a step of 8 sequences in two microbatches of two per rank: 0 1 and 4 5 are rank 0's.
TEST(Epochs, BlocksByMicrobatch) {
  const Epochs epochs{16, 8, workloads::LastBatch::drop, {workloads::Distribution::block, true, 2, 2}, 7};
  for (std::int64_t step = 0; step < 4; ++step) {
    for (std::int64_t i = 0; i < 8; ++i) {
      EXPECT_EQ(epochs.item(step, i) / 8, i / 2 % 2);
    }
  }
  std::set<std::int64_t> all;
  for (std::int64_t n = 0; n < 16; ++n) {
    all.insert(epochs.item(n / 8, n % 8));
  }
  EXPECT_EQ(all.size(), 16U);
}

// Two epochs of 22 sequences, 5 at a time: 4 steps each; wrapped 44 / 5.
TEST(Epochs, AreSoManySteps) {
  Epochs epochs{22, 5};
  EXPECT_EQ(epochs.steps_of(2), 8);
  epochs.last_batch = workloads::LastBatch::wrap;
  EXPECT_EQ(epochs.steps_of(2), 8);
  EXPECT_EQ(epochs.steps_of(3), 13);
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

TEST(Permutation, HasInTablesWhatPermutedComputes) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 17, 64, 257, 1000}) {
    const Permutation tables(size, 42);
    EXPECT_TRUE(tables.is(size, 42) && !tables.is(size, 43) && !tables.is(size + 1, 42));
    for (std::int64_t i = 0; i < size; ++i) {
      EXPECT_EQ(tables.at(i), permuted(i, size, 42));
    }
  }
}

// An order is the seed's, the epoch's and the block's, whichever was asked for before; so is that of more items than
// have tables.
TEST(Epochs, OrdersDoNotDependOnWhatWasAskedBefore) {
  for (const std::int64_t items : {std::int64_t{64}, std::int64_t{1} << 21}) {
    Epochs epochs;
    epochs.items = items;
    epochs.per_step = 16;
    epochs.seed = 3;
    const std::int64_t last = epochs.steps() - 1;
    EXPECT_EQ(epochs.item(0, 5), permuted(5, items, mix(3)));
    EXPECT_EQ(epochs.item(last + 1, 5), permuted(5, items, mix(3) ^ 1));
    EXPECT_EQ(epochs.item(last, 5), permuted(last * 16 + 5, items, mix(3)));
  }
}

// Of 1,000 sequences of 16 tokens two each: as many, other ones by step and sequence, the same again, and of all 2,000
// four in five the mask, one in ten any id (of 1,000: its own by chance one in 10,000), the others themselves. Standard
// deviations are 18 and 13.
TEST(Masking, TellsAsManyOfEverySequence) {
  const plan::Masking masking{2, 7, 1000};
  std::map<std::int64_t, int> places;
  int masked = 0, same = 0;
  for (std::int64_t index = 0; index < 1000; ++index) {
    std::vector<std::int32_t> ids(16), inputs, targets;
    std::iota(ids.begin(), ids.end(), 100);
    inputs = targets = ids;
    mask_inputs(masking, 3, index, inputs);
    mask_targets(masking, 3, index, targets);
    int told = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (targets[i] < 0) {
        EXPECT_EQ(targets[i], -1);
        EXPECT_EQ(inputs[i], ids[i]);
        continue;
      }
      EXPECT_EQ(targets[i], ids[i]);
      ++told;
      ++places[static_cast<std::int64_t>(i)];
      masked += inputs[i] == 7 ? 1 : 0;
      same += inputs[i] == ids[i] ? 1 : 0;
    }
    EXPECT_EQ(told, 2);
    std::vector<std::int32_t> again = ids;
    mask_targets(masking, 3, index, again);
    EXPECT_EQ(again, targets);
  }
  EXPECT_NEAR(masked, 1600, 100);
  EXPECT_NEAR(same, 200, 70);
  EXPECT_EQ(places.size(), 16u);  // each some 125 times
  std::vector<std::int32_t> a(16, 5), b(16, 5);
  mask_targets({16, 7, 1000}, 0, 0, a);  // all of them
  EXPECT_EQ(a, b);
}

// Training part "aaaaaaaaaaaaaaaaaa" (18 bytes), validation part "ab": each byte counted once more, of 18 + 256 = 274
// in all. a: 19 / 274, b: 1 / 274; the mean of -ln of both.
TEST(UnigramLoss, IsTheCrossEntropyOfByteFrequencies) {
  const Text text = text_of("t", std::string(18, 'a') + "ab");
  EXPECT_DOUBLE_EQ(unigram_loss(text), -(std::log(19.0 / 274.0) + std::log(1.0 / 274.0)) / 2);
}

}  // namespace
}  // namespace foretrain::exec
