// A regular file as memory, read-only: pages come in when they are looked at.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace foretrain {

// Must not shrink while it is mapped: reading past its new end raises SIGBUS.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws InputError "WHAT: PATH: …; expected EXPECTED" for a path that is missing, unreadable or no regular file.
  MappedFile(const std::string& path, const char* what, const char* expected);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace foretrain
