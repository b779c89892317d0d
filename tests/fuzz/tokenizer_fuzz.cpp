// tokenizer.json. One that was accepted encodes any text, and over bytes gives it back.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "workloads/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = foretrain::workloads::Tokenizer::from_text(text, "input");
    const std::string_view sample = text.substr(0, 200);
    for (const auto id : tokenizer.encode(sample)) {
      CHECK(id >= 0 && id < tokenizer.size(), "id {} of {}", id, tokenizer.size());
    }
    if (text.find("\"ByteLevel\"") != std::string_view::npos) {
      CHECK(tokenizer.decode(tokenizer.encode(sample)) == sample, "another text comes back");
    }
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
