#include "cli/run_data.h"

#include <fmt/format.h>

namespace foretrain::cli {

void DataArguments::add_to(Options& options) {
  options.text("data", "PATH", &path,
               "trains on this text, folder of texts or file of token ids, instead of the job's or the built-in one");
  options.text("tokenizer", "FILE", &tokenizer, "a tokenizer.json that turns text into tokens; without it bytes are");
}

exec::Text DataArguments::load(const workloads::Workload& workload) const {
  workloads::DataSpec data = workload.data;
  data.path = path.empty() ? data.path : path;
  data.tokenizer = tokenizer.empty() ? data.tokenizer : tokenizer;
  return exec::load_text(data);
}

std::string epoch_text(const exec::TextWindows& windows, workloads::LastBatch last_batch) {
  const auto plural = [](std::int64_t n, const char* what) {
    return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
  };
  const std::int64_t rest = windows.left_over();
  return fmt::format(
      "an epoch is {}: {}{}", plural(windows.windows(), "sequence"), plural(windows.steps_per_epoch(), "step"),
      rest == 0 ? std::string()
      : last_batch == workloads::LastBatch::drop
          ? fmt::format(", the {} left over {} skipped", plural(rest, "sequence"), rest == 1 ? "is" : "are")
          : fmt::format(", the {} left over {} trained on with the next epoch's", plural(rest, "sequence"),
                        rest == 1 ? "is" : "are"));
}

}  // namespace foretrain::cli
