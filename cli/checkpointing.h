// What `run` does about checkpoints: takes up the newest one, has further ones written, leaves one behind at the end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/units.h"
#include "cli/console.h"
#include "cli/options.h"
#include "exec/checkpoint_writer.h"
#include "exec/executor.h"
#include "exec/processes.h"
#include "plan/job.h"

namespace foretrain::cli {

struct CheckpointArguments {
  std::string folder;  // "": none
  std::int64_t every = 0, keep = 3;
  bool resume = false;

  void add_to(Options& options);
  // Throws InputError for words that need --checkpoint and stand without it.
  void check() const;
};

class Checkpointing {
 public:
  // Before the first step: opens the folder, and takes up the newest sound checkpoint if it is asked to. All processes
  // together; does nothing without a folder. `data`: what is trained on; `timeout`: for those that are late. Everything
  // given must outlive it. Throws InputError for a folder that has checkpoints and is not to be resumed, and for one
  // that has none which is sound and of this job.
  Checkpointing(const CheckpointArguments& arguments, const plan::Job& job, std::uint64_t seed, const std::string& data,
                std::chrono::milliseconds timeout, exec::Executor& executor, exec::Processes& processes,
                Console& console);

  int first_step() const { return first_step_; }
  exec::StateKeeper* keeper() const { return writer_.get(); }
  // The run has ended after so many steps in all; one that was interrupted is told where it can go on. All processes
  // together.
  void ended(int steps_done, bool is_interrupted);
  // What all processes hold of state a second time.
  Bytes copies() const { return copies_; }

 private:
  void resume(std::uint64_t seed, const std::string& data);

  const CheckpointArguments& arguments_;
  const plan::Job& job_;
  exec::Executor& executor_;
  exec::Processes& processes_;
  Console& console_;
  int first_step_ = 0;
  Bytes copies_;
  std::unique_ptr<exec::CheckpointFolder> folder_;
  std::unique_ptr<exec::CheckpointWriter> writer_;
};

}  // namespace foretrain::cli
