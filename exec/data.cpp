#include "exec/data.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/error.h"

namespace foretrain::exec {

namespace {

namespace fs = std::filesystem;

constexpr const char* kLicences = "/usr/share/common-licenses";
constexpr std::int64_t kByteValues = 256;

std::string read_file(const fs::path& path) {
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  if (!fs::exists(status)) {
    throw InputError(fmt::format("data: {}: no such file; expected a text file", path.string()));
  }
  if (!fs::is_regular_file(status)) {
    throw InputError(fmt::format("data: {}: not a regular file; expected a text file", path.string()));
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes(static_cast<std::size_t>(fs::file_size(path, failure)), '\0');
  if (!file || failure || !file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    throw InputError(fmt::format("data: {}: cannot be read: {}", path.string(), std::strerror(errno)));
  }
  return bytes;
}

// SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that scrambles well.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

// A Feistel network over the smallest even number of bits that holds the size, walked until it lands inside (Black and
// Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002): no table, so any rank may ask for any element.
std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key) {
  CHECK(0 <= index && index < size, "element {} of {}", index, size);
  int half = 1;
  while (half < 31 && (std::int64_t{1} << (2 * half)) < size) {
    ++half;
  }
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  auto x = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = x >> half, right = x & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t next = left ^ (mix(key ^ mix(round << 32 | right)) & mask);
      left = right;
      right = next;
    }
    x = left << half | right;
  } while (x >= static_cast<std::uint64_t>(size));
  return static_cast<std::int64_t>(x);
}

Text load_text(const std::string& path) {
  if (!path.empty()) {
    return {path, read_file(path)};
  }
  std::error_code failure;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(kLicences, failure)) {
    if (entry.is_regular_file() && !entry.is_symlink()) {
      files.push_back(entry.path());
    }
  }
  if (failure || files.empty()) {
    throw InputError(fmt::format("data: {} holds no text on this system; name a text file with --data", kLicences));
  }
  std::sort(files.begin(), files.end());
  Text text{fmt::format("{} ({} licence texts)", kLicences, files.size()), {}};
  for (const fs::path& file : files) {
    text.bytes += read_file(file);
  }
  return text;
}

TextWindows::TextWindows(const Text& text, std::string_view part, std::int64_t seq_len, std::int64_t sequences_per_step,
                         std::int64_t vocab, Order order, std::uint64_t seed)
    : part_(part), seq_len_(seq_len), sequences_per_step_(sequences_per_step), order_(order), seed_(seed) {
  CHECK(seq_len >= 1 && sequences_per_step >= 1, "steps of {} sequences of {}", sequences_per_step, seq_len);
  if (vocab < kByteValues) {
    throw InputError(
        fmt::format("model: a vocabulary of {} cannot hold bytes as tokens; expected vocab >= {}", vocab, kByteValues));
  }
  const auto size = static_cast<std::int64_t>(part.size());
  windows_ = std::max<std::int64_t>(0, size - 1) / seq_len;
  if (windows_ < sequences_per_step) {
    const bool trains = part.data() == text.training().data();
    throw InputError(
        fmt::format("data: {}: {} bytes are too few: its {} part has {} bytes, and {} sequence{} of {} tokens need {}",
                    text.name, text.bytes.size(), trains ? "training" : "validation", size, sequences_per_step,
                    sequences_per_step == 1 ? "" : "s", seq_len, sequences_per_step * seq_len + 1));
  }
}

void TextWindows::sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len,
                           std::int32_t* ids) const {
  CHECK(seq_len == seq_len_ && 0 <= index_in_batch && index_in_batch < sequences_per_step_,
        "sequence {} of {} tokens in steps of {} sequences of {}", index_in_batch, seq_len, sequences_per_step_,
        seq_len_);
  const std::int64_t epoch = step / steps_per_epoch();
  const std::int64_t place = step % steps_per_epoch() * sequences_per_step_ + index_in_batch;
  const std::int64_t window =
      order_ == Order::as_written ? place : permuted(place, windows_, mix(seed_) ^ static_cast<std::uint64_t>(epoch));
  const char* const first = part_.data() + window * seq_len_;
  std::transform(first, first + seq_len + 1, ids,
                 [](char c) { return static_cast<std::int32_t>(static_cast<unsigned char>(c)); });
}

TextWindows training_windows(const Text& text, std::int64_t seq_len, std::int64_t global_batch, std::int64_t vocab,
                             std::uint64_t seed) {
  return {text, text.training(), seq_len, global_batch, vocab, TextWindows::Order::shuffled, seed};
}

double unigram_loss(const Text& text) {
  std::array<double, kByteValues> count;
  count.fill(1.0);
  for (const char c : text.training()) {
    count[static_cast<unsigned char>(c)] += 1.0;
  }
  const double total = static_cast<double>(text.training().size() + kByteValues);
  double sum = 0.0;
  for (const char c : text.validation()) {
    sum -= std::log(count[static_cast<unsigned char>(c)] / total);
  }
  return sum / static_cast<double>(std::max<std::size_t>(1, text.validation().size()));
}

}  // namespace foretrain::exec
