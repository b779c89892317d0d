// Profiles. What is read without a mistake is written and read back to the same text.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "topologies/profile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace foretrain::topologies;  // NOLINT(google-build-using-namespace): extern "C" stands outside every
                                          // namespace
  std::string first;
  try {
    first = to_json(profile_from_text(std::string(reinterpret_cast<const char*>(data), size), "input"));
  } catch (const foretrain::InputError&) {
    return 0;
  }
  const std::string again = to_json(profile_from_text(first, "again"));
  CHECK(first == again, "{}\ncame back as\n{}", first, again);
  return 0;
}
