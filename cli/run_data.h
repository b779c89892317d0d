// What `run` trains on.
#pragma once

#include <string>

#include "cli/options.h"
#include "exec/data.h"
#include "workloads/workload.h"

namespace foretrain::cli {

// Words of the command line that stand for those of the job's workload.data.
struct DataArguments {
  std::string path, tokenizer;

  void add_to(Options& options);
  exec::Text load(const workloads::Workload& workload) const;
};

// What an epoch of these windows is, and what becomes of the last batch: "an epoch is 562 sequences: 140 steps, the 2
// sequences left over are skipped".
std::string epoch_text(const exec::TextWindows& windows, workloads::LastBatch last_batch);

}  // namespace foretrain::cli
