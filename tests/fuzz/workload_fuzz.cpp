// The workload part of a job file with its model. What was read without a mistake is written and read back equal.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "workloads/workload_file.h"

namespace {

nlohmann::json read(std::string_view text) {
  const auto document = foretrain::JsonDocument::from_text(text, "input");
  foretrain::Mistakes mistakes;
  foretrain::ObjectReader reader(document, mistakes);
  const auto workload = foretrain::workloads::read_workload(reader, false);
  reader.finish();
  mistakes.throw_if_any();
  return foretrain::workloads::to_json(workload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nlohmann::json first;
  try {
    first = read({reinterpret_cast<const char*>(data), size});
  } catch (const foretrain::InputError&) {
    return 0;
  }
  const nlohmann::json again = read(first.dump());
  CHECK(first == again, "{} came back as {}", first.dump(), again.dump());
  return 0;
}
