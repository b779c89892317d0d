// Plan graphs as JSON. What is read without a mistake is written and read back to the same text, and the validator
// answers on it, however wrong it is.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "plan/dump.h"
#include "plan/validate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace foretrain;  // NOLINT(google-build-using-namespace): extern "C" stands outside every namespace
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const plan::PlanGraph graph = plan::graph_from_json(text, "input");
    const std::string first = plan::to_json(graph);
    const std::string again = plan::to_json(plan::graph_from_json(first, "again"));
    CHECK(first == again, "{}\ncame back as\n{}", first, again);
    // The validator walks every rank; a graph of a few bytes can name a billion of them.
    if (graph.mesh.ranks() <= 64) {
      plan::validate(graph);
    }
  } catch (const InputError&) {
  }
  return 0;
}
