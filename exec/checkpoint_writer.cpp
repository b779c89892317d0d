#include "exec/checkpoint_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/error.h"
#include "base/output_file.h"
#include "exec/checkpoint_shard_reader.h"
#include "exec/host_memory.h"

namespace foretrain::exec {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTick{20};
constexpr std::chrono::seconds kLast{2};  // for shards of others, when the run has ended without them
constexpr std::size_t kBlock = std::size_t{1} << 22;
constexpr char kOwner = '.', kReplica = '+';

std::string shard_name(plan::Rank rank) {
  return fmt::format("rank-{:05}.shard", rank);
}

void sync_folder(const std::string& path) {
  // A file system that cannot sync a folder is no reason to fail.
  const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
}

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw EnvironmentError(fmt::format("{}: cannot be put in place: {}", to, std::strerror(errno)));
  }
}

}  // namespace

CheckpointWriter::CheckpointWriter(const CheckpointFolder& folder, const std::vector<RankMemory>& ranks, Manifest about,
                                   CheckpointOptions options)
    : folder_(folder), about_(std::move(about)), options_(std::move(options)) {
  std::string mine;  // lines: a letter for the party, then the name
  const auto add = [&mine](Party& party, char letter, ShardSource source) {
    if (!source.empty()) {
      mine += letter + shard_name(source.rank()) + "\n";
      party.shards.push_back({std::move(source), nullptr, false});
    }
  };
  for (const RankMemory& memory : ranks) {
    add(owners_, kOwner, ShardSource(memory));
    if (is_replica_of_server(*memory.rank->graph, memory.rank->rank)) {
      add(replicas_, kReplica, ShardSource(memory, Replicas::in_its_place));
    }
  }
  require_memory(folder_.peers().all_gather, memory_limits(), copies(), "checkpoints' copies of the state", "");
  for (Shard& shard : owners_.shards) {
    shard.copy = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(shard.source.payload_bytes()));
  }
  for (const std::string& of_process : folder_.peers().all_gather(mine)) {
    std::istringstream lines(of_process);
    for (std::string name; std::getline(lines, name);) {
      (name.front() == kReplica ? replicas_ : owners_).names.push_back(name.substr(1));
    }
  }
  thread_ = std::thread([this] { work(); });
}

CheckpointWriter::~CheckpointWriter() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Bytes CheckpointWriter::copies() const {
  std::int64_t bytes = 0;
  for (const Shard& shard : owners_.shards) {
    bytes += shard.source.payload_bytes();
  }
  return Bytes{bytes};
}

std::int64_t CheckpointWriter::newest() const {
  const std::lock_guard lock(mutex_);
  return newest_;
}

void CheckpointWriter::set_newest(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  newest_ = step;
}

// The one of this step, nullptr when it is over; the lock is held. Steps rise.
CheckpointWriter::Checkpoint* CheckpointWriter::begun(int step) {
  if (step > last_begun_) {
    last_begun_ = step;
    checkpoints_.push_back({step, 0, {}, false, folder_.peers().number == 0});
  }
  const auto found =
      std::find_if(checkpoints_.begin(), checkpoints_.end(), [&](const Checkpoint& c) { return c.step == step; });
  return found == checkpoints_.end() ? nullptr : &*found;
}

void CheckpointWriter::keep(const RankMemory& memory, int steps_done) {
  std::vector<Shard>& shards = owners_.shards;
  const auto shard =
      std::find_if(shards.begin(), shards.end(), [&](const Shard& s) { return s.source.rank() == memory.rank->rank; });
  std::unique_lock lock(mutex_);
  begun(steps_done);
  if (shard != shards.end()) {
    // Others wait for this rank meanwhile, and not for ever.
    const bool is_free = changed_.wait_for(lock, options_.patience / 2, [&] { return !shard->is_full; });
    if (is_free) {
      lock.unlock();
      shard->source.copy_to(shard->copy.get());
      lock.lock();
      shard->is_full = true;
    }
    Checkpoint* const checkpoint = begun(steps_done);
    CHECK(checkpoint != nullptr, "rank {} has nothing to add to the checkpoint of step {}", memory.rank->rank,
          steps_done);
    ++checkpoint->copied;
    if (!is_free) {
      checkpoint->failure = "the one before is still being written";
    }
  }
  lock.unlock();
  changed_.notify_all();
}

void CheckpointWriter::keep_last(int steps_done, bool is_first, const std::string& failure) {
  {
    const std::lock_guard lock(mutex_);
    // What lacks copies still will never have them.
    std::erase_if(checkpoints_, [&](const Checkpoint& c) { return c.copied < owners_.shards.size(); });
    checkpoints_.push_back({steps_done, owners_.shards.size(), failure, true, is_first});
  }
  changed_.notify_all();
}

void CheckpointWriter::keep_all(const std::vector<RankMemory>& ranks, int steps_done) {
  bool is_new = false;
  {
    const std::lock_guard lock(mutex_);
    is_new = last_begun_ != steps_done && newest_ != steps_done;
  }
  for (const RankMemory& memory : ranks) {
    if (is_new) {
      keep(memory, steps_done);
    }
  }
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kTick, [&] { return checkpoints_.empty(); })) {
    lock.unlock();
    folder_.peers().check();
    lock.lock();
  }
}

void CheckpointWriter::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto is_ready = [&] { return !checkpoints_.empty() && checkpoints_.front().copied == owners_.shards.size(); };
    changed_.wait(lock, [&] { return is_ready() || is_ending_; });
    if (!is_ready()) {
      return;  // what ranks have not all copied will never be
    }
    const Checkpoint checkpoint = checkpoints_.front();
    lock.unlock();
    write(checkpoint);
    lock.lock();
    checkpoints_.pop_front();
    changed_.notify_all();
  }
}

// Where a process says that its part of the checkpoint will not come.
std::string CheckpointWriter::marker(int process) const {
  return fmt::format("failed-{}", process);
}

void CheckpointWriter::write(const Checkpoint& checkpoint) {
  const std::string folder = unfinished(checkpoint);
  std::vector<Shard>& shards = party(checkpoint).shards;
  std::string failure = checkpoint.failure;
  std::error_code ignored;
  try {
    options_.at("begin");
    // Whoever writes nothing may come when the folder has its name already.
    if (!shards.empty() || checkpoint.puts_in_place) {
      fs::create_directory(folder, ignored);
    }
    for (std::size_t i = 0; i < shards.size() && failure.empty(); ++i) {
      if (checkpoint.is_last) {
        const ShardSource& source = shards[i].source;
        shards[i].copy = std::make_unique<std::byte[]>(static_cast<std::size_t>(source.payload_bytes()));
        source.copy_to(shards[i].copy.get());
      }
      write_shard(folder, shards[i], checkpoint.step);
    }
  } catch (const std::exception& error) {
    failure = error.what();
  }
  {
    const std::lock_guard lock(mutex_);
    for (Shard& shard : shards) {
      shard.is_full = false;
    }
  }
  changed_.notify_all();
  if (!failure.empty()) {
    std::ofstream(fmt::format("{}/{}", folder, marker(folder_.peers().number))) << failure;
  }
  if (!checkpoint.puts_in_place) {
    return;
  }
  try {
    if (!failure.empty()) {
      throw EnvironmentError(failure);
    }
    put_in_place(checkpoint);
    if (checkpoint.is_last) {
      options_.left_behind(checkpoint.step);
    }
  } catch (const std::exception& error) {
    fs::remove_all(folder, ignored);
    const std::int64_t before = newest();
    options_.warn(fmt::format("no checkpoint of step {}: {}{}{}", checkpoint.step, error.what(),
                              checkpoint.is_last ? "" : "; training goes on",
                              before < 0 ? "" : fmt::format(", {} is the newest", folder_.of_step(before))));
  }
}

void CheckpointWriter::write_shard(const std::string& folder, const Shard& shard, int step) const {
  ShardHeader header = shard.source.header();
  header.step = step;
  const std::int64_t bytes = shard.source.payload_bytes();
  header.payload_crc = crc32(shard.copy.get(), bytes);
  OutputFile file(folder + "/" + shard_name(shard.source.rank()));
  file.write(to_bytes(header));
  std::string_view rest(reinterpret_cast<const char*>(shard.copy.get()), static_cast<std::size_t>(bytes));
  for (bool first = true; !rest.empty(); first = false) {
    file.write(rest.substr(0, kBlock));
    rest.remove_prefix(std::min(rest.size(), kBlock));
    if (first) {
      options_.at("in a shard");
    }
  }
  file.commit();
  options_.at("behind a shard");
}

// When all shards are there. Throws Error when one does not come.
void CheckpointWriter::put_in_place(const Checkpoint& checkpoint) {
  const int step = checkpoint.step;
  const std::string folder = unfinished(checkpoint), place = folder_.of_step(step);
  Manifest manifest = about_;
  manifest.step = step;
  manifest.sequences = about_.sequences * step;
  for (const std::string& name : party(checkpoint).names) {
    manifest.shards.push_back(wait_for(folder, name, checkpoint));
  }
  options_.at("before the manifest");
  write_file(folder + "/manifest.json", to_json(manifest));
  options_.at("behind the manifest");
  // A damaged one of this step gives way.
  std::error_code ignored;
  const std::string aside = folder_.unfinished(checkpoint_name(step) + "-before");
  if (fs::exists(place, ignored)) {
    rename_path(place, aside);
  }
  options_.at("before the renaming");
  rename_path(folder, place);
  sync_folder(folder_.path());
  options_.at("behind the renaming");
  fs::remove_all(aside, ignored);
  {
    const std::lock_guard lock(mutex_);
    newest_ = step;
  }
  remove_old(step);
}

std::string CheckpointWriter::unfinished(const Checkpoint& checkpoint) const {
  return folder_.unfinished(checkpoint_name(checkpoint.step) + (checkpoint.is_last ? "-last" : ""));
}

ShardFile CheckpointWriter::wait_for(const std::string& folder, const std::string& name,
                                     const Checkpoint& checkpoint) const {
  const std::string path = folder + "/" + name;
  const Clock::time_point begin = Clock::now();
  Clock::time_point ended{};
  while (::access(path.c_str(), F_OK) != 0) {
    for (int process = 0; process < folder_.peers().count; ++process) {
      if (std::ifstream failed(fmt::format("{}/{}", folder, marker(process))); failed) {
        const std::string why{std::istreambuf_iterator<char>(failed), {}};
        throw EnvironmentError(why.empty() ? fmt::format("{}: process {} could not write it", path, process) : why);
      }
    }
    const Clock::time_point now = Clock::now();
    {
      const std::lock_guard lock(mutex_);
      if (is_ending_ && !checkpoint.is_last && ended == Clock::time_point{}) {
        ended = now;
      }
    }
    if (now - begin > options_.patience || (ended != Clock::time_point{} && now - ended > kLast)) {
      throw EnvironmentError(fmt::format("{}: did not come within {} s", path,
                                         std::chrono::duration_cast<std::chrono::seconds>(now - begin).count()));
    }
    std::this_thread::sleep_for(kTick);
  }
  const ShardReader shard(path);
  CHECK(shard.header().step == checkpoint.step, "{}: of step {}, not {}", path, shard.header().step, checkpoint.step);
  return {name, shard.file_bytes(), shard.header_crc()};
}

// Those behind this step are of a course that was left: they do not count.
void CheckpointWriter::remove_old(int step) const {
  std::vector<std::int64_t> steps = checkpoint_steps(folder_.path());
  std::erase_if(steps, [&](std::int64_t s) { return s > step; });
  std::error_code ignored;
  for (std::size_t i = 0; i + static_cast<std::size_t>(options_.keep) < steps.size(); ++i) {
    // Under another name first: half of one is not to be found.
    const std::string old = folder_.unfinished(checkpoint_name(steps[i]) + "-old");
    fs::rename(folder_.of_step(steps[i]), old, ignored);
    options_.at("in removing");
    fs::remove_all(old, ignored);
  }
}

}  // namespace foretrain::exec
