#include "exec/checkpoint_shard_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace foretrain::exec {

namespace {

constexpr std::int64_t kBlock = std::int64_t{1} << 20;

void read_at(int descriptor, std::int64_t at, std::int64_t bytes, void* to, const std::string& path) {
  auto* out = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor, out, static_cast<std::size_t>(bytes), at);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      throw EnvironmentError(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
    }
    if (got == 0) {
      throw InputError(fmt::format("{}: ends after {} bytes; more were written", path, at));
    }
    out += got;
    at += got;
    bytes -= got;
  }
}

}  // namespace

ShardReader::ShardReader(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    if (errno == ENOENT) {
      throw InputError(fmt::format("{}: is missing", path_));
    }
    throw EnvironmentError(fmt::format("{}: cannot be read: {}", path_, std::strerror(errno)));
  }
  try {
    size_ = status.st_size;
    std::string start(static_cast<std::size_t>(std::min(size_, kShardPreamble)), '\0');
    read_at(descriptor_, 0, static_cast<std::int64_t>(start.size()), start.data(), path_);
    payload_at_ = shard_start_bytes(start, path_);
    start.resize(static_cast<std::size_t>(std::min(size_, payload_at_)));
    read_at(descriptor_, 0, static_cast<std::int64_t>(start.size()), start.data(), path_);
    start_ = shard_start(start, path_);
    const std::int64_t expected = payload_at_ + start_.header.payload_bytes();
    if (size_ != expected) {
      throw InputError(fmt::format("{}: has {} bytes; its header says {}", path_, size_, expected));
    }
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

ShardReader::~ShardReader() {
  ::close(descriptor_);
}

void ShardReader::verify_payload() const {
  std::vector<std::byte> block(static_cast<std::size_t>(kBlock));
  std::uint32_t crc = 0;
  for (std::int64_t at = payload_at_; at < size_; at += kBlock) {
    const std::int64_t bytes = std::min(kBlock, size_ - at);
    read_at(descriptor_, at, bytes, block.data(), path_);
    crc = crc32(block.data(), bytes, crc);
  }
  if (crc != header().payload_crc) {
    throw InputError(fmt::format("{}: its content's checksum is {}; {} was written", path_, crc_text(crc),
                                 crc_text(header().payload_crc)));
  }
}

void ShardReader::read(std::int64_t payload_offset, std::int64_t bytes, std::byte* to) const {
  read_at(descriptor_, payload_at_ + payload_offset, bytes, to, path_);
}

}  // namespace foretrain::exec
