// Job files of other tools. What raised no mistake is a job.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "plan/foreign/foreign.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using foretrain::plan::ForeignFormat;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const ForeignFormat format :
       {foretrain::plan::format_of(text, "input"), ForeignFormat::megatron, ForeignFormat::torchtitan}) {
    try {
      const auto job = foretrain::plan::import_foreign(format, text, "input", {});
      CHECK(!job.document.empty(), "no job");
    } catch (const foretrain::InputError&) {
    }
  }
  return 0;
}
