// A safetensors file. What is accepted lies within the file and belongs to one tensor each.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "workloads/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    std::size_t sum = 0;
    for (const auto& tensor : foretrain::workloads::read_safetensors(bytes, "input")) {
      const std::byte* const begin = tensor.bytes.data();
      CHECK(tensor.bytes.empty() || (begin >= bytes.data() && begin + tensor.bytes.size() <= bytes.data() + size),
            "tensor {} outside the file", tensor.name);
      CHECK(tensor.elements() <= static_cast<std::int64_t>(tensor.bytes.size()), "tensor {} of {} elements",
            tensor.name, tensor.elements());
      sum += tensor.bytes.size();
    }
    CHECK(sum <= size, "{} bytes of tensors in {}", sum, size);
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
