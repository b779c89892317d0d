#include "base/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace foretrain {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;
constexpr std::size_t kLongestPath = 4096;

enum class SlotState : int { free, filling, listed };
struct Slot {
  std::atomic<SlotState> state{SlotState::free};
  std::array<char, kLongestPath> path{};
};
std::array<Slot, 8> unfinished;

// A handler sees a slot only when its path is complete. No free slot: the file is simply not listed.
int list_unfinished(const std::string& path) {
  for (std::size_t i = 0; i < unfinished.size() && path.size() < kLongestPath; ++i) {
    SlotState expected = SlotState::free;
    if (unfinished[i].state.compare_exchange_strong(expected, SlotState::filling)) {
      std::memcpy(unfinished[i].path.data(), path.c_str(), path.size() + 1);
      unfinished[i].state = SlotState::listed;
      return static_cast<int>(i);
    }
  }
  return -1;
}

void unlist(int slot) {
  if (slot >= 0) {
    unfinished[static_cast<std::size_t>(slot)].state = SlotState::free;
  }
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  struct stat status {};
  const bool exists = ::stat(path_.c_str(), &status) == 0;
  if (path_.empty() || (exists && S_ISDIR(status.st_mode))) {
    errno = path_.empty() ? ENOENT : EISDIR;
    fail("cannot be written");
  }
  if (exists && !S_ISREG(status.st_mode)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    temporary_ = fmt::format("{}.{}.tmp", path_, ::getpid());
    slot_ = list_unfinished(temporary_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  }
  if (descriptor_ < 0) {
    unlist(slot_);
    fail("cannot be written");
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    if (!temporary_.empty()) {
      ::unlink(temporary_.c_str());
    }
  }
  unlist(slot_);
}

void OutputFile::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) {
    flush();
  }
}

void OutputFile::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = ::write(descriptor_, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) {
      fail("cannot be written");
    }
    rest.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
  }
  buffer_.clear();
}

void OutputFile::commit() {
  flush();
  if (!temporary_.empty()) {
    if (::fsync(descriptor_) != 0) {
      fail("cannot be written");
    }
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
      fail("cannot be put in place");
    }
    // The new name must survive a crash as well; a file system that cannot sync a folder is no reason to fail.
    const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
      ::fsync(folder);
      ::close(folder);
    }
  }
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0) {
    fail("cannot be written");
  }
}

void OutputFile::fail(const char* what) const {
  const int error = errno;
  throw EnvironmentError(fmt::format("{}: {}: {}", path_, what, std::strerror(error)));
}

void write_file(const std::string& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

void remove_unfinished_outputs() noexcept {
  for (const Slot& slot : unfinished) {
    if (slot.state == SlotState::listed) {
      ::unlink(slot.path.data());
    }
  }
}

}  // namespace foretrain
