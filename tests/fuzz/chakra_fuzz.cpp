// Chakra execution traces. A node that was read is written and read again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "plan/foreign/chakra.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using foretrain::plan::ChakraNode;
  try {
    foretrain::plan::read_chakra({reinterpret_cast<const char*>(data), size}, "input", [](const ChakraNode& node) {
      int again = 0;
      foretrain::plan::read_chakra(foretrain::plan::chakra_header() + encode(node), "again", [&](const ChakraNode& n) {
        again += n.id == node.id && n.name == node.name ? 1 : 2;
      });
      CHECK(again == 1, "{} nodes of one", again);
    });
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
