// Whole jobs. The first line of the input is an override, the rest a job. A job that is accepted resolves, and the
// resolved job reads back to itself.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "plan/job.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line_end = std::min(text.find('\n'), text.size());
  std::vector<std::string> overrides;
  if (line_end > 0) {
    overrides.emplace_back(text.substr(0, line_end));
  }
  std::string first;
  try {
    const auto job = foretrain::plan::job_from_text(std::string(text.substr(line_end)), "input", overrides);
    first = foretrain::plan::resolved(job).dump();
  } catch (const foretrain::InputError&) {
    return 0;
  }
  const auto again = foretrain::plan::resolved(foretrain::plan::job_from_text(first, "resolved", {})).dump();
  CHECK(again == first, "{} came back as {}", first, again);
  return 0;
}
