#include "workloads/token_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/mapped_file.h"

namespace foretrain::workloads {

namespace {

namespace fs = std::filesystem;

constexpr const char* kExpected = "a file of token ids";

constexpr std::size_t kLlmcHeader = 256 * sizeof(std::int32_t);
struct LlmcKind {
  std::int32_t magic, version;
  int width;
};
constexpr std::array<LlmcKind, 2> kLlmcKinds{{{20240520, 1, 2}, {20240801, 7, 4}}};

constexpr char kMegatronMagic[] = "MMIDIDX\0";  // nine bytes, the last two zero
constexpr std::size_t kMegatronHeader = 9 + 8 + 1 + 8 + 8;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw InputError(fmt::format("data: {}: {}", path, what));
}

template <class T>
T number_at(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

Tokens tokens_of(MappedFile file, std::size_t begin, int width) {
  const auto owner = std::make_shared<const MappedFile>(std::move(file));
  const auto bytes = owner->bytes().subspan(begin);
  return {owner, bytes.data(), width, std::ssize(bytes) / width};
}

Tokens read_llmc(const std::string& path) {
  MappedFile file(path, "data", kExpected);
  const auto bytes = file.bytes();
  if (bytes.size() < kLlmcHeader) {
    refuse(path,
           fmt::format("{} bytes are too few for a file of llm.c's, whose header has {}", bytes.size(), kLlmcHeader));
  }
  const auto word = [&](std::size_t i) { return number_at<std::int32_t>(bytes.data() + 4 * i); };
  const auto kind = std::find_if(kLlmcKinds.begin(), kLlmcKinds.end(),
                                 [&](const LlmcKind& k) { return k.magic == word(0) && k.version == word(1); });
  if (kind == kLlmcKinds.end()) {
    refuse(path, fmt::format("magic number {} and version {}, the first 8 bytes, are not allowed; expected 20240520 "
                             "and 1 (GPT-2's ids) or 20240801 and 7 (Llama 3's), as llm.c writes them",
                             word(0), word(1)));
  }
  const auto stored = static_cast<std::int64_t>(bytes.size() - kLlmcHeader);
  if (word(2) < 0 || word(2) * std::int64_t{kind->width} != stored) {
    refuse(path, fmt::format("the header, bytes 8 to 11, says {} tokens of {} bytes; {} bytes follow it", word(2),
                             kind->width, stored));
  }
  const int width = kind->width;
  return tokens_of(std::move(file), kLlmcHeader, width);
}

Tokens read_plain(const std::string& path, int width) {
  MappedFile file(path, "data", kExpected);
  if (file.bytes().size() % static_cast<std::size_t>(width) != 0) {
    refuse(path, fmt::format("{} bytes are no whole number of ids of {} bytes", file.bytes().size(), width));
  }
  return tokens_of(std::move(file), 0, width);
}

std::string without_end(const std::string& path) {
  return path.ends_with(".bin") || path.ends_with(".idx") ? path.substr(0, path.size() - 4) : path;
}

// Documents lie one after the other in the .bin, so that the index is needed for the width of ids only; what it says
// of sizes is checked against the data.
Tokens read_megatron(const std::string& path) {
  const std::string index_path = without_end(path) + ".idx", data_path = without_end(path) + ".bin";
  const MappedFile index_file(index_path, "data", "the index of a data set of Megatron's");
  const auto index = index_file.bytes();
  if (index.size() < kMegatronHeader || std::memcmp(index.data(), kMegatronMagic, 9) != 0) {
    refuse(index_path, "does not begin with MMIDIDX and a header, as an index of Megatron's does");
  }
  const auto version = number_at<std::uint64_t>(index.data() + 9);
  const auto code = number_at<std::uint8_t>(index.data() + 17);
  const auto sequences = number_at<std::uint64_t>(index.data() + 18);
  if (version != 1) {
    refuse(index_path, fmt::format("version {}, bytes 9 to 16, is not allowed; expected 1", version));
  }
  const int width = code == 8 ? 2 : code == 4 ? 4 : 0;
  if (width == 0) {
    refuse(index_path, fmt::format("type {} of ids, byte 17, is not allowed; expected 4 (int32) or 8 (uint16)", code));
  }
  if (sequences > (index.size() - kMegatronHeader) / sizeof(std::int32_t)) {
    refuse(index_path,
           fmt::format("{} sequences, bytes 18 to 25, need more than its {} bytes", sequences, index.size()));
  }
  std::int64_t ids = 0;
  for (std::uint64_t i = 0; i < sequences; ++i) {
    const auto size = number_at<std::int32_t>(index.data() + kMegatronHeader + i * sizeof(std::int32_t));
    if (size < 0) {
      refuse(index_path, fmt::format("sequence {} has {} ids; expected none or more", i, size));
    }
    ids += size;
  }
  MappedFile data(data_path, "data", kExpected);
  if (ids * width != std::ssize(data.bytes())) {
    refuse(data_path, fmt::format("has {} bytes; its index {} says {} ids of {} bytes", data.bytes().size(), index_path,
                                  ids, width));
  }
  return tokens_of(std::move(data), 0, width);
}

}  // namespace

Tokens Tokens::of_bytes(std::string bytes) {
  const auto owner = std::make_shared<const std::string>(std::move(bytes));
  return {owner, reinterpret_cast<const std::byte*>(owner->data()), 1, std::ssize(*owner)};
}

Tokens Tokens::of_ids(std::vector<std::int32_t> ids) {
  const auto owner = std::make_shared<const std::vector<std::int32_t>>(std::move(ids));
  return {owner, reinterpret_cast<const std::byte*>(owner->data()), 4, std::ssize(*owner)};
}

void Tokens::append(const Tokens& more) {
  for (Piece piece : more.pieces_) {
    piece.begin += size_;
    pieces_.push_back(std::move(piece));
  }
  size_ += more.size_;
}

Tokens Tokens::part(std::int64_t begin, std::int64_t count) const {
  CHECK(0 <= begin && 0 <= count && begin + count <= size_, "ids {} to {} of {}", begin, begin + count, size_);
  Tokens out;
  for (const Piece& p : pieces_) {
    const std::int64_t from = std::max(begin, p.begin), to = std::min(begin + count, p.end());
    if (from < to) {
      out.append({p.owner, p.data + (from - p.begin) * p.width, p.width, to - from});
    }
  }
  return out;
}

std::int64_t Tokens::Piece::id(std::int64_t i) const {
  const std::byte* const at = data + (i - begin) * width;
  switch (width) {
    case 1: return number_at<std::uint8_t>(at);
    case 2: return number_at<std::uint16_t>(at);
    default: return number_at<std::uint32_t>(at);
  }
}

const Tokens::Piece& Tokens::piece_of(std::int64_t i) const {
  CHECK(0 <= i && i < size_, "id {} of {}", i, size_);
  const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), i,
                                      [](std::int64_t index, const Piece& p) { return index < p.end(); });
  return *after;
}

void Tokens::copy(std::int64_t begin, std::int64_t count, std::int32_t* ids) const {
  CHECK(0 <= begin && begin + count <= size_, "ids {} to {} of {}", begin, begin + count, size_);
  for (std::int64_t i = begin; i < begin + count;) {
    const Piece& piece = piece_of(i);
    for (const std::int64_t end = std::min(begin + count, piece.end()); i < end; ++i) {
      ids[i - begin] = static_cast<std::int32_t>(piece.id(i));
    }
  }
}

std::optional<std::int64_t> Tokens::first_from(std::int64_t limit) const {
  for (const Piece& piece : pieces_) {
    for (std::int64_t i = piece.begin; i < piece.end(); ++i) {
      if (piece.id(i) >= limit) {
        return i;
      }
    }
  }
  return std::nullopt;
}

std::int64_t Tokens::largest() const {
  std::int64_t most = -1;
  for (const Piece& piece : pieces_) {
    for (std::int64_t i = piece.begin; i < piece.end(); ++i) {
      most = std::max(most, piece.id(i));
    }
  }
  return most;
}

DataFormat format_of(const std::string& path) {
  std::error_code none;
  const bool is_pair = fs::exists(without_end(path) + ".idx", none) && fs::exists(without_end(path) + ".bin", none);
  if (is_pair) {
    return DataFormat::megatron;
  }
  if (!path.ends_with(".bin") || !fs::is_regular_file(path, none)) {
    return DataFormat::text;
  }
  std::array<char, 4> first{};
  std::ifstream(path, std::ios::binary).read(first.data(), first.size());
  const auto magic = number_at<std::int32_t>(reinterpret_cast<const std::byte*>(first.data()));
  if (std::none_of(kLlmcKinds.begin(), kLlmcKinds.end(), [&](const LlmcKind& k) { return k.magic == magic; })) {
    refuse(path, fmt::format("begins with {}, none of llm.c's magic numbers (20240520, 20240801), and has no .idx "
                             "beside it; say what it is with workload.data.format=uint16, uint32 or text",
                             magic));
  }
  return DataFormat::llm_c;
}

Tokens read_token_file(const std::string& path, DataFormat format) {
  switch (format) {
    case DataFormat::llm_c: return read_llmc(path);
    case DataFormat::uint16: return read_plain(path, 2);
    case DataFormat::uint32: return read_plain(path, 4);
    case DataFormat::megatron: return read_megatron(path);
    default: CHECK(false, "{}: a format without ids", path);
  }
  return {};
}

}  // namespace foretrain::workloads
