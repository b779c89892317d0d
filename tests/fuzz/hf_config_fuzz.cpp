// Hugging Face's config.json. A model that raised no mistake can be counted.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "workloads/hf_config.h"
#include "workloads/model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto document = foretrain::JsonDocument::from_text(text, "input");
    foretrain::Mistakes mistakes;
    const auto model = foretrain::workloads::import_hf_config(document, mistakes);
    mistakes.throw_if_any();
    CHECK(foretrain::workloads::total_parameters(model) > 0, "a model without parameters");
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
