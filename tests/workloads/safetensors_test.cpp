#include "workloads/safetensors.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace foretrain::workloads {
namespace {

using test::message_of;
using test::TemporaryFolder;

std::string length_of(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>(length >> (8 * i) & 0xff);
  }
  return bytes;
}

std::string file_of(const std::string& header, const std::string& data) {
  return length_of(header.size()) + header + data;
}

std::vector<StoredTensor> read(const std::string& bytes) {
  return read_safetensors(std::as_bytes(std::span(bytes)), "f");
}

std::string refusal(const std::string& bytes) {
  return message_of([&] { read(bytes); });
}

TensorToStore tensor(const std::string& name, std::vector<std::int64_t> shape, const std::string& bytes) {
  return {name, std::move(shape), [bytes] { return bytes; }};
}

TEST(Safetensors, ReadsWhatTheFormatSays) {
  const std::string bytes =
      file_of(R"({"b":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},)"
              R"("a":{"dtype":"U8","shape":[],"data_offsets":[4,5]},)"
              R"("e":{"dtype":"F64","shape":[0,7],"data_offsets":[5,5]},"__metadata__":{"k":"v"}}  )",
              "wxyz!");
  const std::vector<StoredTensor> tensors = read(bytes);
  ASSERT_EQ(tensors.size(), 3U);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].elements(), 1);
  EXPECT_EQ(tensors[0].number_type(), std::nullopt);
  EXPECT_EQ(static_cast<char>(tensors[0].bytes[0]), '!');
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(tensors[1].number_type(), Dtype::fp16);
  EXPECT_EQ(static_cast<char>(tensors[1].bytes[3]), 'z');
  EXPECT_EQ(tensors[2].elements(), 0);
  EXPECT_TRUE(read(file_of("{}", "")).empty());
}

TEST(Safetensors, RefusesAHeaderThatIsNone) {
  EXPECT_EQ(refusal(""), "weights: f: 0 bytes are no safetensors file; expected a header's length in the first 8");
  EXPECT_EQ(refusal("1234567"),
            "weights: f: 7 bytes are no safetensors file; expected a header's length in the first 8");
  EXPECT_EQ(refusal(length_of(3) + "{}"),
            "weights: f: the header's length, the first 8 bytes, is 3; expected at most "
            "2, which is where the file ends");
  EXPECT_EQ(refusal(length_of(UINT64_MAX) + "{}"),
            "weights: f: the header's length, the first 8 bytes, is 18446744073709551615; expected at most 2, which is "
            "where the file ends");
  EXPECT_EQ(refusal(file_of("[]", "")), "weights: f: the header is no JSON object; expected one of tensors by name");
  EXPECT_EQ(refusal(file_of(R"({"a":1,"a":2})", "")), "f: header:1: the key \"a\" stands twice in one object");
  EXPECT_EQ(refusal(file_of(R"({"__metadata__":{"a":1}})", "")),
            "weights: f: __metadata__: {\"a\":1} is not allowed; expected an object of strings");
}

// One tensor of two F32, with one field changed.
std::string with(const std::string& field, const std::string& data = "12345678") {
  std::string header = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::size_t at = header.find(field.substr(0, field.find(':') + 1));
  const std::size_t end = header.find_first_of(field.starts_with("\"dtype") ? "," : "]", at);
  header.replace(at, end - at + (field.starts_with("\"dtype") ? 0 : 1), field);
  return refusal(file_of(header, data));
}

TEST(Safetensors, RefusesATensorThatCannotBe) {
  EXPECT_EQ(with("\"shape\":[2]"), "no error");
  EXPECT_EQ(with("\"shape\":[3]"),
            "weights: f: tensor \"t\": data_offsets: [0,8] hold 8 bytes; F32 of shape [3] are 12");
  EXPECT_EQ(with("\"shape\":[-2]"), "weights: f: tensor \"t\": shape: [-2] is not allowed; expected a list of sizes");
  EXPECT_EQ(with("\"shape\":[9223372036854775807,2]"),
            "weights: f: tensor \"t\": shape: [9223372036854775807,2] is not allowed; expected a list of sizes");
  EXPECT_EQ(with("\"dtype\":\"F33\""),
            "weights: f: tensor \"t\": dtype: \"F33\" is not allowed; expected one of: F64, "
            "F32, F16, BF16, or a type without weights");
  for (const char* wrong : {"[8,0]", "[0]", "[0,9]", "[0,8,8]", "[-1,7]", "[0.0,8]", "[0,18446744073709551615]"}) {
    EXPECT_EQ(with(std::string("\"data_offsets\":") + wrong),
              fmt::format("weights: f: tensor \"t\": data_offsets: {} is not allowed; expected [begin, end] within the "
                          "8 bytes of data",
                          wrong));
  }
  EXPECT_EQ(refusal(file_of(R"({"t":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1}})", "a")),
            "weights: f: tensor \"t\": unknown key \"x\"; known: dtype, shape, data_offsets");
  EXPECT_EQ(refusal(file_of(R"({"t":7})", "")),
            "weights: f: tensor \"t\": 7 is not allowed; expected an object with "
            "dtype, shape and data_offsets");
}

TEST(Safetensors, RefusesOverlapsAndGaps) {
  const auto two = [](const std::string& first, const std::string& second, const std::string& data) {
    return refusal(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
                               R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}",
                           data));
  };
  EXPECT_EQ(two("[0,2]", "[2,4]", "wxyz"), "no error");
  EXPECT_EQ(two("[2,4]", "[0,2]", "wxyz"), "no error");
  EXPECT_EQ(two("[0,2]", "[1,3]", "wxyz"),
            "weights: f: tensor \"b\": data_offsets begin at byte 1; expected 2, where tensor \"a\" ends");
  EXPECT_EQ(two("[0,2]", "[3,5]", "vwxyz"),
            "weights: f: tensor \"b\": data_offsets begin at byte 3; expected 2, where tensor \"a\" ends");
  EXPECT_EQ(two("[1,3]", "[3,5]", "vwxyz"),
            "weights: f: tensor \"a\": data_offsets begin at byte 1; expected 0, where the header ends");
  EXPECT_EQ(two("[0,2]", "[2,4]", "wxyz!").substr(0, 52), "weights: f: 1 bytes of data belong to no tensor; exp");
}

TEST(Safetensors, WritesWhatItReads) {
  const TemporaryFolder folder;
  const std::vector<TensorToStore> tensors{tensor("b", {2, 2}, "0123456789abcdef"), tensor("none", {0}, ""),
                                           tensor("a", {1}, "wxyz")};
  const std::string path = folder.path("f.safetensors");
  write_safetensors(path, Dtype::fp32, tensors);
  const Safetensors read(path);
  EXPECT_EQ(read.path(), path);
  ASSERT_EQ(read.tensors().size(), 3U);
  const StoredTensor* b = read.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(b->bytes.data()), b->bytes.size()), "0123456789abcdef");
  EXPECT_EQ(read.find("c"), nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b->bytes.data()) % 8, 0U) << "the data begins at a multiple of 8";
}

// Tensors of 8, 4, 4 and 12 bytes in files of at most 12: a and b, c alone, d alone.
TEST(Safetensors, FillsFilesInOrder) {
  const TemporaryFolder folder;
  const std::vector<TensorToStore> tensors{tensor("a", {2}, "aaaaaaaa"), tensor("b", {1}, "bbbb"),
                                           tensor("c", {1}, "cccc"), tensor("d", {3}, "dddddddddddd")};
  write_safetensors_folder(folder.path(""), Dtype::fp32, tensors, 12);
  EXPECT_TRUE(std::filesystem::exists(folder.path("model-00003-of-00003.safetensors")));
  EXPECT_FALSE(std::filesystem::exists(folder.path("model.safetensors")));
  for (const std::string& path : {folder.path(""), folder.path("model.safetensors.index.json")}) {
    const Safetensors read(path);
    ASSERT_EQ(read.tensors().size(), 4U);
    EXPECT_EQ(std::filesystem::path(read.find("b")->file).filename(), "model-00001-of-00003.safetensors");
    EXPECT_EQ(std::filesystem::path(read.find("c")->file).filename(), "model-00002-of-00003.safetensors");
    EXPECT_EQ(static_cast<char>(read.find("d")->bytes[11]), 'd');
  }
  // The second file in the first one's place: its tensors are elsewhere than the index says.
  std::filesystem::copy_file(folder.path("model-00002-of-00003.safetensors"),
                             folder.path("model-00001-of-00003.safetensors"),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(message_of([&] { Safetensors{folder.path("")}; }).find("tensor \"c\" stands here; "), std::string::npos);
  std::filesystem::remove(folder.path("model-00001-of-00003.safetensors"));
  EXPECT_EQ(message_of([&] { Safetensors{folder.path("")}; }),
            "weights: " + folder.path("model-00001-of-00003.safetensors") +
                ": no such file; expected a safetensors file, or a folder with model.safetensors or its index");
}

TEST(Safetensors, RefusesAnIndexThatIsNone) {
  const TemporaryFolder folder;
  EXPECT_EQ(message_of([&] { Safetensors{folder.path("")}; }),
            "weights: " + folder.path("") + ": neither model.safetensors nor model.safetensors.index.json is there");
  const std::string index = folder.path("model.safetensors.index.json");
  for (const char* text : {"{}", "[]", R"({"weight_map": {}})", R"({"weight_map": 3})"}) {
    folder.write("model.safetensors.index.json", text);
    EXPECT_EQ(message_of([&] { Safetensors{folder.path("")}; }),
              "weights: " + index + ": /weight_map: expected an object of file names by tensor")
        << text;
  }
  folder.write("model.safetensors.index.json", R"({"weight_map": {"t": "../f.safetensors"}})");
  EXPECT_EQ(message_of([&] { Safetensors{folder.path("")}; }),
            "weights: " + index +
                ": /weight_map: tensor \"t\": \"../f.safetensors\" is not allowed; expected a file of the same folder");
  const std::vector<TensorToStore> tensors{tensor("a", {1}, "aaaa")};
  write_safetensors(folder.path("x.safetensors"), Dtype::fp32, tensors);
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}})");
  EXPECT_EQ(message_of([&] { Safetensors{folder.path("")}; }),
            "weights: " + folder.path("x.safetensors") + ": tensor \"b\" is missing; " + index + " expects it here");
}

// Whatever byte is changed or cut off: an error or tensors within the file, nothing else.
TEST(Safetensors, SurvivesDamage) {
  const std::string whole = file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                    R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}})",
                                    "0123456789ab");
  EXPECT_EQ(refusal(whole), "no error");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_NE(refusal(whole.substr(0, i)), "no error") << i;
    for (const char c : {'\0', '0', '9', '{', '"', '\xFF'}) {
      std::string damaged = whole;
      damaged[i] = c;
      refusal(damaged);
    }
  }
}

}  // namespace
}  // namespace foretrain::workloads
