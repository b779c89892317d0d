#include "cli/checkpointing.h"

#include <fmt/format.h>

#include "base/error.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kMost = 1'000'000'000;

exec::Peers peers_of(exec::Processes& processes) {
  return {processes.number(), processes.count(), [&](const std::string& mine) { return processes.all_gather(mine); },
          [&] { processes.check(); }};
}

}  // namespace

void CheckpointArguments::add_to(Options& options) {
  options.text("checkpoint", "DIR", &folder,
               "writes checkpoints there while training: at the end, when interrupted, and:");
  options.integer("checkpoint-every", &every, 1, kMost, "... after each so many steps");
  options.integer("keep", &keep, 1, kMost, "newest checkpoints that are kept [3]");
  options.flag("resume", &resume, "goes on from the newest sound checkpoint; --steps counts the whole run's");
}

void CheckpointArguments::check() const {
  if (folder.empty() && (resume || every > 0)) {
    throw InputError(fmt::format("--{}: needs --checkpoint DIR", resume ? "resume" : "checkpoint-every"));
  }
}

Checkpointing::Checkpointing(const CheckpointArguments& arguments, const plan::Job& job, std::uint64_t seed,
                             const std::string& data, std::chrono::milliseconds timeout, exec::Executor& executor,
                             exec::Processes& processes, Console& console)
    : arguments_(arguments), job_(job), executor_(executor), processes_(processes), console_(console) {
  if (arguments.folder.empty()) {
    return;
  }
  folder_ = std::make_unique<exec::CheckpointFolder>(arguments.folder, peers_of(processes));
  resume(seed, data);
  exec::CheckpointOptions options;
  options.every = arguments.every;
  options.keep = arguments.keep;
  options.patience = timeout;
  options.warn = [&console](const std::string& why) { console.warning(why); };
  options.left_behind = [this](std::int64_t step) {
    console_.note(fmt::format("the servers' replicas left step {} in {}; --resume goes on from there", step,
                              folder_->of_step(step)));
  };
  writer_ = std::make_unique<exec::CheckpointWriter>(*folder_, executor.memory(),
                                                     exec::manifest_of_first_step(job, seed, data), options);
  if (first_step_ > 0) {
    writer_->set_newest(first_step_);
  }
  for (const std::string& bytes : processes.all_gather(fmt::format("{}", writer_->copies().value))) {
    copies_ += Bytes{std::stoll(bytes)};
  }
}

void Checkpointing::resume(std::uint64_t seed, const std::string& data) {
  int damaged = 0;
  if (!arguments_.resume) {
    const std::int64_t newest = folder_->newest_step();
    if (newest >= 0) {
      throw InputError(
          fmt::format("--checkpoint: {} has checkpoints, the newest of step {}; --resume goes on from there, and a new "
                      "run needs another folder",
                      arguments_.folder, newest));
    }
    return;
  }
  const std::optional<exec::Manifest> manifest = folder_->newest([&](const std::string& why) {
    ++damaged;
    console_.warning(fmt::format("a checkpoint is damaged: {}", why));
  });
  if (!manifest && damaged > 0) {
    throw InputError(fmt::format("--resume: no checkpoint in {} is sound", arguments_.folder));
  }
  if (!manifest) {
    console_.note(fmt::format("{} has no checkpoint: starts at step 0", arguments_.folder));
    return;
  }
  const std::string place = folder_->of_step(manifest->step);
  exec::check_same_state(*manifest, job_, place);
  for (const std::string& change : exec::changes(*manifest, job_, seed, data)) {
    console_.warning(fmt::format("goes on as another run: {}", change));
  }
  exec::StateTargets targets(executor_.memory(), job_.workload.model.vocab);
  exec::restore(place, *manifest, targets);
  first_step_ = static_cast<int>(manifest->step);
  executor_.go_on_from(first_step_);
  console_.note(fmt::format("resumes at step {} from {}", first_step_, place));
}

void Checkpointing::ended(int steps_done, bool is_interrupted) {
  if (writer_ == nullptr || !executor_.can_go_on()) {
    return;
  }
  if (steps_done > 0) {
    writer_->keep_all(executor_.memory(), steps_done);
  }
  const std::int64_t newest = writer_->newest();
  if (is_interrupted && newest >= 0) {
    console_.note(fmt::format("step {} is in {}; --resume goes on from there", newest, folder_->of_step(newest)));
  }
  // A launcher ends all when one has ended: none does before the last checkpoint is in place.
  processes_.all_gather("");
}

}  // namespace foretrain::cli
