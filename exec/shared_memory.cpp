#include "exec/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

std::byte* map(std::size_t size, int descriptor, int flags, Bytes bytes) {
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, descriptor, 0);
  if (data == MAP_FAILED) {
    throw EnvironmentError(fmt::format("no memory for {}: {}", to_string(bytes), std::strerror(errno)));
  }
  // First touch in 4 KiB pages is several times slower; refusal is no error.
  (void)::madvise(data, size, MADV_HUGEPAGE);
  return static_cast<std::byte*>(data);
}

std::size_t at_least_one(Bytes bytes) {
  return static_cast<std::size_t>(std::max<std::int64_t>(bytes.value, 1));
}

}  // namespace

SharedMemory SharedMemory::create(Bytes bytes, Reach reach) {
  const std::size_t size = at_least_one(bytes);
  if (reach == Reach::this_process) {
    return {map(size, -1, MAP_PRIVATE | MAP_ANONYMOUS, bytes), size, -1};
  }
  SharedMemory memory(nullptr, size, ::memfd_create("foretrain", MFD_CLOEXEC));
  if (memory.descriptor_ < 0 || ::ftruncate(memory.descriptor_, static_cast<off_t>(size)) != 0) {
    throw EnvironmentError(fmt::format("no shared memory of {}: {}", to_string(bytes), std::strerror(errno)));
  }
  memory.data_ = map(size, memory.descriptor_, MAP_SHARED, bytes);
  return memory;
}

SharedMemory SharedMemory::attach(std::int64_t pid, int descriptor, Bytes bytes) {
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, descriptor);
  const std::size_t size = at_least_one(bytes);
  SharedMemory memory(nullptr, size, ::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (memory.descriptor_ < 0) {
    throw EnvironmentError(fmt::format(
        "the memory of process {} on this host cannot be shared ({}: {}); all ranks of a host must run as one user, in "
        "one container",
        pid, path, std::strerror(errno)));
  }
  struct stat status {};
  if (::fstat(memory.descriptor_, &status) != 0 || status.st_size != static_cast<off_t>(size)) {
    throw EnvironmentError(fmt::format("{} is not the {} that its process shares", path, to_string(bytes)));
  }
  memory.data_ = map(size, memory.descriptor_, MAP_SHARED, bytes);
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(other.size_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) {
    ::munmap(data_, size_);
  }
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

}  // namespace foretrain::exec
