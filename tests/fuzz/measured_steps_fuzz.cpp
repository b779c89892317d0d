// Logs and traces of other tools. What raised no mistake has a step.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "plan/foreign/measured_steps.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  foretrain::plan::Job job;
  job.workload.global_batch = 8;
  job.workload.seq_len = 8;
  for (const bool trace : {true, false}) {
    try {
      const auto steps =
          trace ? foretrain::plan::read_kineto(text, "input") : foretrain::plan::read_log(text, "input", job);
      CHECK(steps.warm_up < steps.seconds.size(), "no step");
    } catch (const foretrain::InputError&) {
    }
  }
  return 0;
}
