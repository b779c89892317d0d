// A shard's file, open (checkpoint_shard.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "exec/checkpoint_shard.h"

namespace foretrain::exec {

// Everything throws InputError for what is not as it was written, EnvironmentError for what cannot
// be read.
class ShardReader {
 public:
  explicit ShardReader(std::string path);
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  const ShardHeader& header() const { return start_.header; }
  std::uint32_t header_crc() const { return start_.header_crc; }
  std::int64_t file_bytes() const { return size_; }
  void verify_payload() const;
  void read(std::int64_t payload_offset, std::int64_t bytes, std::byte* to) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0, payload_at_ = 0;
  ShardStart start_;
};

}  // namespace foretrain::exec
