// Memory that several processes of one host may hold.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/units.h"

namespace foretrain::exec {

// Zeroed. Unmapped with the value; nothing of it is left anywhere when its holders are gone, however they went.
class SharedMemory {
 public:
  enum class Reach : std::uint8_t { this_process, this_host };

  SharedMemory() = default;
  // Throws EnvironmentError.
  static SharedMemory create(Bytes bytes, Reach reach);
  // The memory that process `pid` of this host created for the host, by its descriptor() there.
  static SharedMemory attach(std::int64_t pid, int descriptor, Bytes bytes);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  std::byte* data() const { return data_; }
  int descriptor() const { return descriptor_; }

 private:
  SharedMemory(std::byte* data, std::size_t size, int descriptor) : data_(data), size_(size), descriptor_(descriptor) {}
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
};

}  // namespace foretrain::exec
