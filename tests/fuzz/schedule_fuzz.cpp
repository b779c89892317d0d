// Schedule text. What parses is written and read back equal, checking it ends, and what passes runs to its end.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "plan/schedule.h"
#include "plan/schedule_times.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace foretrain::plan;  // NOLINT(google-build-using-namespace): extern "C" stands outside every namespace
  Schedule schedule;
  try {
    schedule = schedule_from_text(std::string(reinterpret_cast<const char*>(data), size), "input");
  } catch (const foretrain::InputError&) {
    return 0;
  }
  CHECK(schedule_from_text(to_text(schedule), "again") == schedule, "{}", to_text(schedule));
  for (const int virtual_stages : {1, 2}) {
    try {
      check(schedule, static_cast<int>(schedule.size()), virtual_stages, 2, "input");
      for (const std::vector<Action>& row : schedule) {
        assign_copies(row);
      }
      times(schedule);
    } catch (const foretrain::InputError&) {
    }
  }
  return 0;
}
