#include "exec/data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "exec/permutation.h"

namespace foretrain::exec {

namespace {

namespace fs = std::filesystem;
using workloads::DataFormat;
using workloads::Tokens;

constexpr const char* kLicences = "/usr/share/common-licenses";
constexpr std::int64_t kByteValues = 256;

constexpr const char* kExpected = "a file, or a folder of such files";

// The regular files of a folder, in order of name.
std::vector<std::string> files_of(const std::string& folder, bool follows_links) {
  std::error_code failure;
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failure)) {
    const bool is_hidden = entry.path().filename().string().starts_with('.');
    std::error_code unreadable;
    if (entry.is_regular_file(unreadable) && !is_hidden && (follows_links || !entry.is_symlink(unreadable))) {
      files.push_back(entry.path().string());
    }
  }
  if (failure) {
    throw InputError(fmt::format("data: {}: cannot be read: {}", folder, failure.message()));
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Ids of one or several files of text, in order.
Tokens read_texts(const std::vector<std::string>& files, const workloads::Tokenizer* tokenizer) {
  if (files.size() == 1 && tokenizer == nullptr) {
    const auto file = std::make_shared<const MappedFile>(files.front(), "data", kExpected);
    return {file, file->bytes().data(), 1, std::ssize(file->bytes())};
  }
  std::string all;
  std::vector<std::int32_t> ids;
  for (const std::string& path : files) {
    const MappedFile file(path, "data", kExpected);
    const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    if (tokenizer == nullptr) {
      all += bytes;
      continue;
    }
    try {
      const std::vector<std::int32_t> more = tokenizer->encode(bytes);
      ids.insert(ids.end(), more.begin(), more.end());
    } catch (const InputError& e) {
      throw InputError(fmt::format("data: {}: {}", path, e.what()));
    }
  }
  return tokenizer == nullptr ? Tokens::of_bytes(std::move(all)) : Tokens::of_ids(std::move(ids));
}

// A folder's is that of its files: text, or that of the first which is none.
DataFormat known_format(const std::string& path, DataFormat asked) {
  std::error_code none;
  if (asked != DataFormat::automatic || !fs::is_directory(path, none)) {
    return asked == DataFormat::automatic ? workloads::format_of(path) : asked;
  }
  for (const std::string& file : files_of(path, /*follows_links=*/true)) {
    if (const DataFormat format = workloads::format_of(file); format != DataFormat::text) {
      return format;
    }
  }
  return DataFormat::text;
}

// Ids of the files of a folder, in order; what is no such file in it is refused.
Tokens read_id_files(const std::vector<std::string>& files, DataFormat asked) {
  Tokens all;
  for (const std::string& file : files) {
    const DataFormat format = known_format(file, asked);
    if (format == DataFormat::text) {
      throw InputError(
          fmt::format("data: {}: is text, and files of token ids stand beside it; expected one or the other", file));
    }
    if (format != DataFormat::megatron || !file.ends_with(".idx")) {
      all.append(workloads::read_token_file(file, format));
    }
  }
  return all;
}

Tokens read_part(const std::string& path, DataFormat asked, const workloads::Tokenizer* tokenizer) {
  const DataFormat format = known_format(path, asked);
  std::error_code none;
  if (!fs::is_directory(path, none)) {
    return format == DataFormat::text ? read_texts({path}, tokenizer) : workloads::read_token_file(path, format);
  }
  const std::vector<std::string> files = files_of(path, /*follows_links=*/true);
  if (files.empty()) {
    throw InputError(fmt::format("data: {}: the folder has no files; expected text, or token ids, in it", path));
  }
  return format == DataFormat::text ? read_texts(files, tokenizer) : read_id_files(files, asked);
}

std::shared_ptr<const workloads::Tokenizer> read_tokenizer(const std::string& path) {
  std::error_code none;
  const bool is_folder = fs::is_directory(path, none);
  return std::make_shared<const workloads::Tokenizer>(
      workloads::Tokenizer::from_file(is_folder ? (fs::path(path) / "tokenizer.json").string() : path));
}

// All ids into the two parts.
void share_out(Text& text, const Tokens& all) {
  text.training = all.part(0, all.size() - all.size() / 10);
  text.validation = all.part(text.training.size(), all.size() / 10);
}

// Where the first id stands that is `vocab` or more.
[[noreturn]] void refuse_ids(const Text& text, std::int64_t vocab) {
  const auto in_training = text.training.first_from(vocab);
  const Tokens& part = in_training ? text.training : text.validation;
  const std::int64_t place = in_training ? *in_training : part.first_from(vocab).value();
  throw InputError(fmt::format("data: {}: token {} of its {} part is {}; the model's vocabulary has ids from 0 to {}",
                               text.name, place, in_training ? "training" : "validation", part[place], vocab - 1));
}

void check_vocabulary(const Text& text, std::int64_t vocab) {
  if (text.ids <= vocab) {
    return;
  }
  if (text.is_bytes) {
    throw InputError(
        fmt::format("model: a vocabulary of {} cannot hold bytes as tokens; expected vocab >= {}", vocab, kByteValues));
  }
  if (text.tokenizer != nullptr) {
    throw InputError(fmt::format("model: a vocabulary of {} cannot hold the tokens of {}; expected vocab >= {}", vocab,
                                 text.tokenizer->name(), text.ids));
  }
  refuse_ids(text, vocab);
}

}  // namespace

std::string_view Text::bytes(std::int64_t id) const {
  static const std::string values = [] {
    std::string all;
    for (int b = 0; b < kByteValues; ++b) {
      all += static_cast<char>(b);
    }
    return all;
  }();
  return tokenizer != nullptr           ? tokenizer->bytes(static_cast<workloads::Tokenizer::Id>(id))
         : is_bytes && id < kByteValues ? std::string_view(values).substr(static_cast<std::size_t>(id), 1)
                                        : std::string_view();
}

Text text_of(std::string name, std::string bytes) {
  Text text;
  text.name = std::move(name);
  share_out(text, Tokens::of_bytes(std::move(bytes)));
  return text;
}

Text reversals(std::int64_t seq_len, std::int64_t vocab, std::int64_t start) {
  constexpr std::int64_t kIds = 1 << 20;
  constexpr std::uint64_t kKey = 0x72657673;  // "revs"
  std::vector<std::int32_t> ids;
  for (std::int64_t window = 0; window < kIds / (2 * seq_len) + 20; ++window) {
    for (std::int64_t i = 0; i < seq_len; ++i) {
      const auto place = static_cast<std::uint64_t>(window * seq_len + i);
      const auto symbol = static_cast<std::int64_t>(mix(kKey ^ mix(place)) % static_cast<std::uint64_t>(vocab - 1));
      ids.push_back(static_cast<std::int32_t>(symbol < start ? symbol : symbol + 1));
    }
    for (std::int64_t i = 1; i <= seq_len; ++i) {
      ids.push_back(ids[ids.size() - static_cast<std::size_t>(2 * i - 1)]);
    }
  }
  Text text;
  text.name = "sequences to reverse";
  text.is_bytes = false;
  text.ids = vocab;
  const std::int64_t windows = std::ssize(ids) / (2 * seq_len), kept = windows / 10 * 2 * seq_len;
  const Tokens all = Tokens::of_ids(std::move(ids));
  text.training = all.part(0, all.size() - kept);  // whole sequences in either part
  text.validation = all.part(text.training.size(), kept);
  return text;
}

Text load_text(const workloads::DataSpec& data) {
  Text text;
  text.last_batch = data.last_batch;
  if (!data.tokenizer.empty()) {
    text.tokenizer = read_tokenizer(data.tokenizer);
    text.ids = text.tokenizer->size();
  }
  Tokens all;
  if (data.path.empty()) {
    const std::vector<std::string> files = files_of(kLicences, /*follows_links=*/false);
    if (files.empty()) {
      throw InputError(fmt::format("data: {} holds no text on this system; name a text file with --data", kLicences));
    }
    text.name = fmt::format("{} ({} licence texts)", kLicences, files.size());
    text.is_bytes = text.tokenizer == nullptr;
    all = read_texts(files, text.tokenizer.get());
  } else {
    text.name = data.path;
    text.is_bytes = known_format(data.path, data.format) == DataFormat::text && text.tokenizer == nullptr;
    all = read_part(data.path, data.format, text.tokenizer.get());
  }
  if (text.tokenizer != nullptr) {
    text.name += " through " + text.tokenizer->name();
  }
  if (data.validation.empty()) {
    share_out(text, all);
  } else {
    const DataFormat other = known_format(data.validation, data.format);
    if ((other == DataFormat::text && text.tokenizer == nullptr) != text.is_bytes) {
      throw InputError(
          fmt::format("data: {}: its ids are not those of {}: one of them is bytes", data.validation, text.name));
    }
    text.training = all;
    text.validation = read_part(data.validation, data.format, text.tokenizer.get());
  }
  if (!text.is_bytes) {
    // A file of ids may have more than the tokenizer that is said to have made it.
    const std::int64_t above = std::max(text.training.largest(), text.validation.largest()) + 1;
    if (text.tokenizer != nullptr && above > text.ids) {
      refuse_ids(text, text.ids);
    }
    text.ids = text.tokenizer != nullptr ? text.ids : above;
  }
  return text;
}

std::int64_t synthetic_count(const workloads::DataSpec& data, bool trains) {
  return trains ? data.samples : std::max<std::int64_t>(1, data.samples / 10);
}

Epochs synthetic_epochs(const workloads::Workload& workload, bool trains, const Dealing& dealing, std::uint64_t seed,
                        std::string_view what) {
  const std::int64_t count = synthetic_count(workload.data, trains);
  const Dealing dealt = trains ? dealing : kAsWritten;
  const Epochs epochs{count / dealt.blocks() * dealt.blocks(), trains ? workload.global_batch : 1,
                      workload.data.last_batch, dealt, seed};
  if (epochs.items < epochs.per_step) {
    throw InputError(
        fmt::format("data: {} {} are fewer than the {} of a step (global_batch)", count, what, workload.global_batch));
  }
  return epochs;
}

std::int64_t Epochs::steps_of(std::int64_t epochs) const {
  return last_batch == workloads::LastBatch::wrap ? epochs * items / per_step : epochs * steps();
}

namespace {

// Of larger ones tables cost more than the few elements that a step takes.
constexpr std::int64_t kMostTabled = 1 << 20;

// permuted(), with the tables of the last permutation that the thread asked for.
std::int64_t shuffled(std::int64_t index, std::int64_t size, std::uint64_t key) {
  if (size > kMostTabled) {
    return permuted(index, size, key);
  }
  thread_local Permutation last;
  if (!last.is(size, key)) {
    last = Permutation(size, key);
  }
  return last.at(index);
}

}  // namespace

// Each block has an epoch of its own, of which a step takes its part: microbatch by microbatch.
DataPlace Epochs::place(std::int64_t step, std::int64_t index_in_batch) const {
  const std::int64_t blocks = dealing.blocks(), size = items / blocks, share = per_step / blocks;
  const std::int64_t microbatch = index_in_batch / dealing.together;
  const std::int64_t block = blocks > 1 ? microbatch % blocks : 0;
  const std::int64_t index =
      blocks > 1 ? microbatch / blocks * dealing.together + index_in_batch % dealing.together : index_in_batch;
  std::int64_t epoch = step / (size / share);
  std::int64_t place = step % (size / share) * share + index;
  if (last_batch == workloads::LastBatch::wrap) {
    epoch = (step * share + index) / size;
    place = (step * share + index) % size;
  }
  if (dealing.distribution == workloads::Distribution::sequential) {
    return {epoch, place};
  }
  const std::uint64_t key =
      mix(seed) ^ static_cast<std::uint64_t>(dealing.reshuffles ? epoch : 0) ^ static_cast<std::uint64_t>(block) << 32;
  return {epoch, block * size + shuffled(place, size, key)};
}

namespace {

// Of so many items those that are dealt out.
std::int64_t dealt(std::int64_t items, const Dealing& dealing) {
  const std::int64_t blocks = dealing.blocks();
  return (dealing.first == 0 ? items : std::min(items, dealing.first)) / blocks * blocks;
}

}  // namespace

TextWindows::TextWindows(const Text& text, Part part, std::int64_t seq_len, std::int64_t sequences_per_step,
                         std::int64_t vocab, const Dealing& dealing, std::uint64_t seed)
    : part_(part == Part::training ? text.training : text.validation),
      seq_len_(seq_len),
      epochs_{dealt(std::max<std::int64_t>(0, part_.size() - 1) / seq_len, dealing), sequences_per_step,
              text.last_batch, dealing, seed} {
  CHECK(seq_len >= 1 && sequences_per_step >= 1, "steps of {} sequences of {}", sequences_per_step, seq_len);
  check_vocabulary(text, vocab);
  if (windows() < sequences_per_step) {
    throw InputError(
        fmt::format("data: {}: {} {} are too few: its {} part has {} {}, and {} sequence{} of {} tokens need {}",
                    text.name, text.training.size() + text.validation.size(), text.unit(),
                    part == Part::training ? "training" : "validation", part_.size(), text.unit(), sequences_per_step,
                    sequences_per_step == 1 ? "" : "s", seq_len, sequences_per_step * seq_len + 1));
  }
}

void TextWindows::sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len,
                           std::int32_t* ids) const {
  CHECK(seq_len == seq_len_ && 0 <= index_in_batch && index_in_batch < epochs_.per_step,
        "sequence {} of {} tokens in steps of {} sequences of {}", index_in_batch, seq_len, epochs_.per_step, seq_len_);
  part_.copy(epochs_.item(step, index_in_batch) * seq_len_, seq_len + 1, ids);
}

TextWindows training_windows(const Text& text, std::int64_t seq_len, std::int64_t global_batch, std::int64_t vocab,
                             std::uint64_t seed, const Dealing& dealing) {
  return {text, TextWindows::Part::training, seq_len, global_batch, vocab, dealing, seed};
}

double unigram_loss(const Text& text) {
  std::vector<double> count(static_cast<std::size_t>(text.ids), 1.0);
  for (std::int64_t i = 0; i < text.training.size(); ++i) {
    count[static_cast<std::size_t>(text.training[i])] += 1.0;
  }
  const auto total = static_cast<double>(text.training.size() + text.ids);
  double sum = 0.0;
  for (std::int64_t i = 0; i < text.validation.size(); ++i) {
    sum -= std::log(count[static_cast<std::size_t>(text.validation[i])] / total);
  }
  return sum / static_cast<double>(std::max<std::int64_t>(1, text.validation.size()));
}

std::optional<double> bytes_per_id(const Text& text) {
  if (text.is_bytes) {
    return 1.0;
  }
  if (text.tokenizer == nullptr || text.validation.size() == 0) {
    return std::nullopt;
  }
  double bytes = 0;
  for (std::int64_t i = 0; i < text.validation.size(); ++i) {
    bytes += static_cast<double>(text.bytes(text.validation[i]).size());
  }
  return bytes / static_cast<double>(text.validation.size());
}

}  // namespace foretrain::exec
