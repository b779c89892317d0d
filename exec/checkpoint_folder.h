// The folder that a run's checkpoints are in: "step-00000010" and so on, each whole or not there at all. What begins
// with a point is unfinished, and of a run that is no more when the next one begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "exec/checkpoint_manifest.h"
#include "exec/checkpoint_state.h"

namespace foretrain::exec {

// How the processes of a run agree. By default there is one.
struct Peers {
  int number = 0, count = 1;
  // What each process gave, by number; all call it in the same order.
  std::function<std::vector<std::string>(const std::string&)> all_gather = [](const std::string& mine) {
    return std::vector<std::string>{mine};
  };
  // Throws when one of them is lost.
  std::function<void()> check = [] {};
};

// "step-00000010".
std::string checkpoint_name(std::int64_t step);
// Steps of the checkpoints in a folder, rising; they need not be sound. Empty where there is no such folder.
std::vector<std::int64_t> checkpoint_steps(const std::string& folder);

class CheckpointFolder {
 public:
  // Made if it is not there; leftovers of earlier runs are removed. All processes together. Throws EnvironmentError
  // when it cannot be written to, when another run has it, and, with the host's name, when it is not the same folder
  // for all.
  CheckpointFolder(std::string path, Peers peers);
  ~CheckpointFolder();
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;

  const std::string& path() const { return path_; }
  const Peers& peers() const { return peers_; }
  std::string of_step(std::int64_t step) const { return path_ + "/" + checkpoint_name(step); }
  // Where a checkpoint is written before it is put in place; of this run alone.
  std::string unfinished(const std::string& what) const { return path_ + "/.unfinished-" + token_ + "-" + what; }

  // Of the newest checkpoint, sound or not; -1: there is none. All processes together.
  std::int64_t newest_step() const;
  // The newest sound checkpoint; every file is read. All processes together. `refused` hears of each one that is
  // damaged, with the reason.
  std::optional<Manifest> newest(const std::function<void(const std::string&)>& refused) const;

 private:
  void take();
  void meet() const;
  std::vector<std::int64_t> steps() const;

  std::string path_, token_;
  Peers peers_;
  int lock_ = -1;  // of the folder; process 0 has it
};

// Why a checkpoint is not what was written, as far as process `number` of `count` looks: its share of the files. ""
// when it is.
std::string damage(const std::string& folder, std::int64_t step, int number, int count);

// Fills what ranks here store from a sound checkpoint. Throws InputError for one that lacks some of it.
void restore(const std::string& folder, const Manifest& manifest, StateTargets& targets);

}  // namespace foretrain::exec
