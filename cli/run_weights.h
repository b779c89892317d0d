// What `run` reads and writes of weights.
#pragma once

#include <string>

#include "cli/options.h"
#include "exec/data.h"
#include "exec/executor.h"
#include "plan/graph.h"
#include "plan/job.h"

namespace foretrain::cli {

struct WeightArguments {
  std::string weights_path, save_path, gradients_path;

  void add_to(Options& options);
  // Throws what load and save would throw for these paths and this model, as far as it is known before a run.
  void check(const plan::Job& job) const;
  // Sets the executor's parameters, where weights were named.
  void load(exec::Executor& executor, const plan::PlanGraph& graph, const plan::Job& job) const;
  // After the run. All processes call it; the one that `writes` writes. The tokenizer's file goes with the model.
  void save(exec::Executor& executor, const plan::Job& job, const exec::Text& text, bool writes) const;
};

}  // namespace foretrain::cli
