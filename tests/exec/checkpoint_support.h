// Runs that are cut in two by a checkpoint, for the tests of it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "exec/checkpoint_folder.h"
#include "exec/checkpoint_writer.h"
#include "exec/executor.h"
#include "plan/build.h"
#include "tests/exec/overrides.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::testing {

// A job and an executor of it, which may go on from a checkpoint.
class Trained {
 public:
  Trained(const char* model, const Overrides& overrides)
      : job(tiny_job(model, words(joined(kBase, overrides)))),
        data(job.workload.model.vocab),
        executor(plan::build(job), data, 7) {}

  exec::Manifest about() const { return exec::manifest_of_first_step(job, 7, "grammar"); }

  // Losses of `steps` further steps; with a keeper.
  std::vector<double> run(int steps, exec::StateKeeper* keeper = nullptr, bool poison = false) {
    exec::RunOptions options;
    options.steps = steps;
    options.timeout = std::chrono::seconds(20);
    options.keeper = keeper;
    options.poison = poison;
    return executor.run(options).loss;
  }

  // Takes up the newest sound checkpoint; its step, or -1.
  std::int64_t resume(const exec::CheckpointFolder& folder, std::vector<std::string>* refused = nullptr) {
    const auto manifest = folder.newest([&](const std::string& why) {
      if (refused != nullptr) {
        refused->push_back(why);
      }
    });
    if (!manifest) {
      return -1;
    }
    exec::check_same_state(*manifest, job, folder.path());
    exec::StateTargets targets(executor.memory(), job.workload.model.vocab);
    exec::restore(folder.of_step(manifest->step), *manifest, targets);
    executor.go_on_from(static_cast<int>(manifest->step));
    return manifest->step;
  }

  const plan::Job job;
  const GrammarData data;
  exec::Executor executor;
};

}  // namespace foretrain::testing
