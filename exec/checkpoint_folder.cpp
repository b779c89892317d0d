#include "exec/checkpoint_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/output_file.h"
#include "exec/checkpoint_shard_reader.h"

namespace foretrain::exec {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStep = "step-";
constexpr std::string_view kUnfinished = ".unfinished-";
constexpr std::chrono::seconds kSeen{5};    // a new file is seen by all hosts within
constexpr std::chrono::seconds kLetGo{10};  // a killed run has let go of its folder within
constexpr std::chrono::milliseconds kTick{50};

// Asks until it is true, at most so long.
template <class Fn>
bool holds_within(std::chrono::seconds limit, const Fn& fn) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!fn()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(kTick);
  }
  return true;
}

std::string host_name() {
  char name[256] = "?";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::optional<std::int64_t> step_of(const std::string& name) {
  std::int64_t step = 0;
  if (name.substr(0, kStep.size()) != kStep) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(name.data() + kStep.size(), name.data() + name.size(), step);
  const bool is_number = error == std::errc{} && end == name.data() + name.size() && step >= 0;
  return is_number && checkpoint_name(step) == name ? std::optional(step) : std::nullopt;
}

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) {
    throw InputError(fmt::format("{}: {}", path, fs::exists(path) ? "cannot be read" : "is missing"));
  }
  return text;
}

Manifest manifest_of(const std::string& folder, std::int64_t step) {
  const std::string path = folder + "/manifest.json";
  Manifest manifest = manifest_from_json(text_of(path), path);
  if (manifest.step != step) {
    throw InputError(fmt::format("{}: is of step {}", path, manifest.step));
  }
  return manifest;
}

void check_file(const std::string& folder, const ShardFile& file, std::int64_t step) {
  const std::string path = folder + "/" + file.name;
  const ShardReader reader(path);
  if (reader.file_bytes() != file.bytes) {
    throw InputError(fmt::format("{}: has {} bytes; the manifest says {}", path, reader.file_bytes(), file.bytes));
  }
  if (reader.header_crc() != file.header_crc || reader.header().step != step) {
    throw InputError(fmt::format("{}: is of another checkpoint", path));
  }
  reader.verify_payload();
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("{}{:08}", kStep, step);
}

std::vector<std::int64_t> checkpoint_steps(const std::string& folder) {
  std::vector<std::int64_t> steps;
  std::error_code failure;
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end; entry.increment(failure)) {
    if (const auto step = step_of(entry->path().filename().string())) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

CheckpointFolder::CheckpointFolder(std::string path, Peers peers) : path_(std::move(path)), peers_(std::move(peers)) {
  std::string why;
  if (peers_.number == 0) {
    try {
      take();
    } catch (const EnvironmentError& error) {
      why = error.what();
    }
  }
  // All fail, or none does.
  const std::string first = peers_.all_gather(why.empty() ? "+" + token_ : "-" + why).front();
  if (first.front() == '-') {
    throw EnvironmentError(first.substr(1));
  }
  token_ = first.substr(1);
  meet();
}

CheckpointFolder::~CheckpointFolder() {
  if (lock_ >= 0) {
    ::close(lock_);
  }
}

// Makes the folder its own, and clean.
void CheckpointFolder::take() {
  std::error_code failure;
  fs::create_directories(path_, failure);
  lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) {
    throw EnvironmentError(fmt::format("{}: cannot be made a folder for checkpoints: {}", path_,
                                       failure ? failure.message() : std::strerror(errno)));
  }
  // Where the file system knows no locks there is none.
  const bool free = holds_within(
      kLetGo, [&] { return ::flock(lock_, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR); });
  if (!free) {
    throw EnvironmentError(fmt::format("{}: another run writes its checkpoints there", path_));
  }
  std::vector<fs::path> left;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, failure)) {
    if (entry.path().filename().string().rfind(kUnfinished, 0) == 0) {
      left.push_back(entry.path());
    }
  }
  for (const fs::path& leftover : left) {
    fs::remove_all(leftover, failure);
  }
  std::random_device random;
  token_ = fmt::format("{:08x}{:08x}", random(), random());
  write_file(unfinished("token"), "");
}

// Every process sees what process 0 wrote.
void CheckpointFolder::meet() const {
  const std::string token = unfinished("token");
  const bool seen = holds_within(kSeen, [&] { return ::access(token.c_str(), R_OK | W_OK) == 0; });
  const std::vector<std::string> blind = peers_.all_gather(seen ? "" : host_name());
  if (peers_.number == 0) {
    ::unlink(token.c_str());
  }
  std::vector<std::string> hosts;
  std::copy_if(blind.begin(), blind.end(), std::back_inserter(hosts), [](const std::string& h) { return !h.empty(); });
  if (!hosts.empty()) {
    std::sort(hosts.begin(), hosts.end());
    hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
    throw EnvironmentError(
        fmt::format("{}: is not the same folder on {}; expected one on a file system that all hosts share", path_,
                    fmt::join(hosts, ", ")));
  }
}

// As process 0 sees them.
std::vector<std::int64_t> CheckpointFolder::steps() const {
  const std::string text = peers_.all_gather(fmt::format("{}", fmt::join(checkpoint_steps(path_), " "))).front();
  std::vector<std::int64_t> steps;
  for (const char *at = text.data(), *end = at + text.size(); at < end;) {
    at = std::from_chars(at, end, steps.emplace_back()).ptr + 1;
  }
  return steps;
}

std::int64_t CheckpointFolder::newest_step() const {
  const std::vector<std::int64_t> all = steps();
  return all.empty() ? -1 : all.back();
}

std::optional<Manifest> CheckpointFolder::newest(const std::function<void(const std::string&)>& refused) const {
  const std::vector<std::int64_t> all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    const std::vector<std::string> reasons =
        peers_.all_gather(damage(of_step(*step), *step, peers_.number, peers_.count));
    const auto reason = std::find_if(reasons.begin(), reasons.end(), [](const std::string& r) { return !r.empty(); });
    if (reason == reasons.end()) {
      return manifest_of(of_step(*step), *step);
    }
    refused(*reason);
  }
  return std::nullopt;
}

std::string damage(const std::string& folder, std::int64_t step, int number, int count) {
  try {
    const Manifest manifest = manifest_of(folder, step);
    for (std::size_t i = static_cast<std::size_t>(number); i < manifest.shards.size();
         i += static_cast<std::size_t>(count)) {
      check_file(folder, manifest.shards[i], step);
    }
  } catch (const InputError& error) {
    return error.what();
  } catch (const EnvironmentError& error) {
    return error.what();
  }
  return {};
}

void restore(const std::string& folder, const Manifest& manifest, StateTargets& targets) {
  for (const ShardFile& file : manifest.shards) {
    const std::string path = folder + "/" + file.name;
    targets.check(ShardReader(path).header(), path);
  }
  std::vector<std::byte> payload;
  for (const ShardFile& file : manifest.shards) {
    const ShardReader reader(folder + "/" + file.name);
    std::int64_t at = 0;
    for (const ShardPiece& piece : reader.header().pieces) {
      const std::int64_t bytes = reader.header().piece_bytes(piece);
      if (targets.wants(reader.header(), piece)) {
        payload.resize(static_cast<std::size_t>(bytes));
        reader.read(at, bytes, payload.data());
        targets.fill(reader.header(), piece, payload.data());
      }
      at += bytes;
    }
  }
  targets.complete();
  if (const std::string name = targets.missing(); !name.empty()) {
    throw InputError(fmt::format("{}: some of {} is in none of its files", folder, name));
  }
}

}  // namespace foretrain::exec
