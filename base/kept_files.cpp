#include "base/kept_files.h"

#include <sys/stat.h>

#include <ctime>

namespace foretrain {

std::optional<FileStamp> file_stamp(const std::string& path) {
  constexpr std::int64_t kSettled = 2;  // seconds: more than any file system rounds its times to
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode) || s.st_size > FileStamp::kLargestKept ||
      std::time(nullptr) - s.st_ctim.tv_sec < kSettled) {
    return std::nullopt;
  }
  return FileStamp{s.st_dev, s.st_ino, s.st_size, s.st_ctim.tv_sec, s.st_ctim.tv_nsec};
}

}  // namespace foretrain
