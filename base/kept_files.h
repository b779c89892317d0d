// What was made of files, kept for as long as they stay as they are: of a thousand jobs most name the same model,
// system and profile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace foretrain {

// Tells one state of a file from another. None where that could go wrong: no regular file, one that is large (bytes
// > kLargestKept), or one written so lately that the next change might bear the same time.
struct FileStamp {
  static constexpr std::int64_t kLargestKept = 1 << 20;
  std::uint64_t device = 0, inode = 0;
  std::int64_t bytes = 0, seconds = 0, nanoseconds = 0;  // of the last change
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
std::optional<FileStamp> file_stamp(const std::string& path);

// Safe to use from several threads.
template <class T>
class KeptFiles {
 public:
  // What `make(path)` returned when the file was as it is now; what it throws is not kept.
  template <class Make>
  std::shared_ptr<const T> get(const std::string& path, Make&& make) {
    const std::optional<FileStamp> stamp = file_stamp(path);
    if (stamp) {
      const std::lock_guard lock(mutex_);
      const auto known = kept_.find(path);
      if (known != kept_.end() && known->second.stamp == *stamp) {
        return known->second.value;
      }
    }
    auto value = std::make_shared<const T>(make(path));
    if (stamp) {
      const std::lock_guard lock(mutex_);
      if (kept_.size() >= kMost) {
        kept_.clear();
      }
      kept_.insert_or_assign(path, Kept{*stamp, value});
    }
    return value;
  }

 private:
  static constexpr std::size_t kMost = 256;
  struct Kept {
    FileStamp stamp;
    std::shared_ptr<const T> value;
  };
  std::mutex mutex_;
  std::map<std::string, Kept> kept_;
};

}  // namespace foretrain
