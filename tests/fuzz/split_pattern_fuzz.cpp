// A pattern that cuts text, up to the first line end, and a text. The pieces are the text.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "workloads/split_pattern.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t line = input.find('\n');
  if (line == std::string_view::npos || size > 400) {
    return 0;
  }
  try {
    const foretrain::workloads::SplitPattern pattern(std::string(input.substr(0, line)));
    std::string joined;
    for (const std::string_view piece : pattern.split(input.substr(line + 1, 60))) {
      CHECK(!piece.empty(), "an empty piece");
      joined += piece;
    }
    CHECK(joined == input.substr(line + 1, 60), "the pieces are another text");
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
