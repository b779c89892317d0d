// Timelines as JSON. What is read without a mistake is written and read back to the same text, and the validator
// answers on it beside a real graph, which need not be the one it belongs to.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "plan/build.h"
#include "plan/job.h"
#include "plan/timeline.h"

namespace {

using namespace foretrain;  // NOLINT(google-build-using-namespace): this file is one function

const plan::PlanGraph& graph() {
  static const plan::PlanGraph built = plan::build(plan::job_from_text(
      R"({"version": 1, "workload": {"model": "tiny-gpt", "seq_len": 16, "global_batch": 2},
          "cluster": {"system": "this-machine"}, "strategy": {"dp": 2}})",
      "fuzz", {}));
  return built;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const plan::Timeline timeline = plan::timeline_from_json(text, "input");
    const std::string first = plan::to_json(timeline);
    const std::string again = plan::to_json(plan::timeline_from_json(first, "again"));
    CHECK(first == again, "{}\ncame back as\n{}", first, again);
    plan::validate(graph(), timeline);
  } catch (const InputError&) {
  }
  return 0;
}
