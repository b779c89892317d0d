// Strict JSON, overrides and the reader. The first line of the input is an override, the rest a document.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line_end = text.find('\n');
  try {
    auto document = foretrain::JsonDocument::from_text(text.substr(line_end == text.npos ? 0 : line_end + 1), "input");
    document.override_value(std::string(text.substr(0, line_end)));
    foretrain::Mistakes mistakes;
    foretrain::ObjectReader root(document, mistakes);
    root.integer("version", {}, 1, 1);
    root.number("number", 1.0, 0.0, 2.0);
    root.boolean("flag", true);
    root.word("word", "one", {"one", "two"});
    root.integers("integers", 0);
    root.time("time", {});
    foretrain::ObjectReader nested = root.object("object");
    nested.bytes("bytes", {});
    nested.finish();
    for (foretrain::ObjectReader& each : root.objects("objects", false)) {
      each.bandwidth("bandwidth", {});
      each.finish();
    }
    root.finish();
    mistakes.throw_if_any();
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
