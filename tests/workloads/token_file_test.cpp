#include "workloads/token_file.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace foretrain::workloads {
namespace {

using test::message_of;
using test::TemporaryFolder;

std::string little(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>(value >> (8 * i) & 0xff);
  }
  return out;
}

std::string llmc(std::uint64_t magic, std::uint64_t version, std::uint64_t count, const std::string& ids) {
  return little(magic, 4) + little(version, 4) + little(count, 4) + std::string(1024 - 12, '\0') + ids;
}

std::vector<std::int64_t> ids_of(const Tokens& tokens) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < tokens.size(); ++i) {
    ids.push_back(tokens[i]);
  }
  return ids;
}

using Ids = std::vector<std::int64_t>;

TEST(Tokens, OfEachWidth) {
  EXPECT_EQ(ids_of(Tokens::of_bytes("a\xFF")), (Ids{97, 255}));
  EXPECT_EQ(ids_of(Tokens::of_ids({1, 70000})), (Ids{1, 70000}));
  EXPECT_EQ(ids_of(Tokens()), Ids{});
  const Tokens all = Tokens::of_ids({5, 6, 7, 8});
  EXPECT_EQ(ids_of(all.part(1, 2)), (Ids{6, 7}));
  EXPECT_EQ(ids_of(all.part(4, 0)), Ids{});
  std::vector<std::int32_t> copied(2);
  all.copy(2, 2, copied.data());
  EXPECT_EQ(copied, (std::vector<std::int32_t>{7, 8}));
  EXPECT_EQ(all.largest(), 8);
  EXPECT_EQ(Tokens().largest(), -1);
  EXPECT_EQ(all.first_from(7), 2);
  EXPECT_EQ(all.first_from(9), std::nullopt);
  EXPECT_THROW(all.part(3, 2), InternalError);
  EXPECT_THROW(all.copy(3, 2, copied.data()), InternalError);
}

// 1 | 2 3 | nothing | 4 5 6, of three widths.
TEST(Tokens, InPieces) {
  Tokens all = Tokens::of_bytes("\x01");
  const std::vector<std::uint16_t> two{2, 3};
  all.append({nullptr, reinterpret_cast<const std::byte*>(two.data()), 2, 2});
  all.append(Tokens());
  all.append(Tokens::of_ids({4, 5, 6}));
  EXPECT_EQ(ids_of(all), (Ids{1, 2, 3, 4, 5, 6}));
  for (std::int64_t begin = 0; begin <= 6; ++begin) {
    for (std::int64_t count = 0; begin + count <= 6; ++count) {
      const Tokens part = all.part(begin, count);
      std::vector<std::int32_t> copied(static_cast<std::size_t>(count));
      all.copy(begin, count, copied.data());
      ASSERT_EQ(part.size(), count);
      for (std::int64_t i = 0; i < count; ++i) {
        EXPECT_EQ(part[i], 1 + begin + i);
        EXPECT_EQ(copied[static_cast<std::size_t>(i)], 1 + begin + i);
      }
      EXPECT_EQ(part.largest(), count == 0 ? -1 : begin + count);
    }
  }
  EXPECT_EQ(all.first_from(5), 4);
  EXPECT_THROW(all[6], InternalError);
}

TEST(TokenFile, OfLlmc) {
  const TemporaryFolder folder;
  folder.write("gpt2.bin", llmc(20240520, 1, 3, little(7, 2) + little(50256, 2) + little(0, 2)));
  folder.write("llama3.bin", llmc(20240801, 7, 2, little(128000, 4) + little(3, 4)));
  folder.write("none.bin", llmc(20240520, 1, 0, ""));
  EXPECT_EQ(format_of(folder.path("gpt2.bin")), DataFormat::llm_c);
  EXPECT_EQ(ids_of(read_token_file(folder.path("gpt2.bin"), DataFormat::llm_c)), (Ids{7, 50256, 0}));
  EXPECT_EQ(ids_of(read_token_file(folder.path("llama3.bin"), DataFormat::llm_c)), (Ids{128000, 3}));
  EXPECT_EQ(ids_of(read_token_file(folder.path("none.bin"), DataFormat::llm_c)), Ids{});
}

TEST(TokenFile, RefusesWhatLlmcDoesNotWrite) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& bytes) {
    folder.write("f.bin", bytes);
    return message_of([&] { read_token_file(folder.path("f.bin"), DataFormat::llm_c); });
  };
  const std::string data = "data: " + folder.path("f.bin") + ": ";
  EXPECT_EQ(refusal("abc"), data + "3 bytes are too few for a file of llm.c's, whose header has 1024");
  EXPECT_EQ(refusal(llmc(20240521, 1, 0, "")),
            data +
                "magic number 20240521 and version 1, the first 8 bytes, are not allowed; expected 20240520 and 1 "
                "(GPT-2's ids) or 20240801 and 7 (Llama 3's), as llm.c writes them");
  EXPECT_NE(refusal(llmc(20240520, 7, 0, "")), "no error");
  EXPECT_EQ(refusal(llmc(20240520, 1, 3, "1234")),
            data + "the header, bytes 8 to 11, says 3 tokens of 2 bytes; 4 bytes follow it");
  EXPECT_EQ(refusal(llmc(20240520, 1, 1, "1234")),
            data + "the header, bytes 8 to 11, says 1 tokens of 2 bytes; 4 bytes follow it");
  EXPECT_NE(refusal(llmc(20240520, 1, 0xFFFFFFFF, "1234")), "no error");
  EXPECT_NE(message_of([&] { read_token_file(folder.path("absent"), DataFormat::llm_c); }), "no error");
}

TEST(TokenFile, NothingButIds) {
  const TemporaryFolder folder;
  folder.write("ids.bin", little(258, 2) + little(3, 2));
  EXPECT_EQ(ids_of(read_token_file(folder.path("ids.bin"), DataFormat::uint16)), (Ids{258, 3}));
  EXPECT_EQ(ids_of(read_token_file(folder.path("ids.bin"), DataFormat::uint32)), (Ids{258 + 3 * 65536}));
  folder.write("odd.bin", "12345");
  EXPECT_EQ(message_of([&] { read_token_file(folder.path("odd.bin"), DataFormat::uint32); }),
            "data: " + folder.path("odd.bin") + ": 5 bytes are no whole number of ids of 4 bytes");
  EXPECT_EQ(message_of([&] { format_of(folder.path("ids.bin")); }),
            "data: " + folder.path("ids.bin") +
                ": begins with 196866, none of llm.c's magic numbers (20240520, 20240801), and has no .idx beside it; "
                "say what it is with workload.data.format=uint16, uint32 or text");
  EXPECT_EQ(format_of(folder.path("absent.bin")), DataFormat::text);
  EXPECT_EQ(format_of(folder.path("")), DataFormat::text);
}

// Two documents of 2 and 1 ids.
TEST(TokenFile, OfMegatron) {
  const TemporaryFolder folder;
  const auto index = [](std::uint64_t version, std::uint64_t code, std::uint64_t sequences) {
    return std::string("MMIDIDX\0\0", 9) + little(version, 8) + little(code, 1) + little(sequences, 8) + little(3, 8) +
           little(2, 4) + little(1, 4) + little(0, 8) + little(4, 8) + little(0, 8) + little(1, 8) + little(2, 8);
  };
  folder.write("d.bin", little(10, 2) + little(11, 2) + little(12, 2));
  folder.write("d.idx", index(1, 8, 2));
  for (const char* name : {"d", "d.bin", "d.idx"}) {
    EXPECT_EQ(format_of(folder.path(name)), DataFormat::megatron);
    EXPECT_EQ(ids_of(read_token_file(folder.path(name), DataFormat::megatron)), (Ids{10, 11, 12}));
  }
  const auto refusal = [&](const std::string& bytes) {
    folder.write("d.idx", bytes);
    return message_of([&] { read_token_file(folder.path("d"), DataFormat::megatron); });
  };
  const std::string place = "data: " + folder.path("d.idx") + ": ";
  EXPECT_EQ(refusal("MMIDIDX"), place + "does not begin with MMIDIDX and a header, as an index of Megatron's does");
  EXPECT_EQ(refusal(index(2, 8, 2)), place + "version 2, bytes 9 to 16, is not allowed; expected 1");
  EXPECT_EQ(refusal(index(1, 6, 2)),
            place + "type 6 of ids, byte 17, is not allowed; expected 4 (int32) or 8 (uint16)");
  EXPECT_EQ(refusal(index(1, 8, UINT64_MAX)),
            place + "18446744073709551615 sequences, bytes 18 to 25, need more than its 82 bytes");
  EXPECT_EQ(refusal(index(1, 4, 2)), "data: " + folder.path("d.bin") + ": has 6 bytes; its index " +
                                         folder.path("d.idx") + " says 3 ids of 4 bytes");
}

}  // namespace
}  // namespace foretrain::workloads
