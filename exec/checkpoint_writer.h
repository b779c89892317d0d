// Writes checkpoints while training goes on. At the end of a step each rank copies its state aside; a thread of this
// process writes the copies. A process tells the others nothing: each shard appears in the unfinished folder under its
// name when it is whole and synced, and when all are there process 0 adds the manifest and renames the folder. A copy
// is used for one checkpoint at a time: the next one waits.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/units.h"
#include "exec/checkpoint_folder.h"
#include "exec/executor.h"

namespace foretrain::exec {

struct CheckpointOptions {
  std::int64_t every = 0;                     // steps; 0: only when told
  std::int64_t keep = 3;                      // so many newest ones are kept
  std::chrono::milliseconds patience{60000};  // for the shards of others, and for the checkpoint before
  // Hears, on the writer's thread, why a checkpoint was given up; training goes on.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
  // Hears there of the checkpoint that replicas of servers have left behind, of a run that has failed.
  std::function<void(std::int64_t step)> left_behind = [](std::int64_t) {};
  // Called on the writer's thread at named points between two writes: where a test kills the process.
  std::function<void(std::string_view)> at = [](std::string_view) {};
};

class CheckpointWriter : public StateKeeper {
 public:
  // `about`: manifest_of_first_step(). All processes together. The folder and the ranks' memory must outlive it.
  // Throws InfeasibleError, in all, where the copies do not fit.
  CheckpointWriter(const CheckpointFolder& folder, const std::vector<RankMemory>& ranks, Manifest about,
                   CheckpointOptions options);
  // Waits for shards whose copies were made; not for long for those of other processes.
  ~CheckpointWriter() override;
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  bool wants(int steps_done) const override { return options_.every > 0 && steps_done % options_.every == 0; }
  void keep(const RankMemory& memory, int steps_done) override;

  void keep_last(int steps_done, bool is_first, const std::string& failure) override;

  // Between runs: a checkpoint of this step, unless there is one. Then waits until all that was begun is written or
  // given up. Throws when another process is lost meanwhile.
  void keep_all(const std::vector<RankMemory>& ranks, int steps_done);

  Bytes copies() const;  // what this process holds of state a second time
  // Of the newest that was put in place, in this run or, until then, before it; -1: none. Process 0 knows.
  std::int64_t newest() const;
  void set_newest(std::int64_t step);

 private:
  struct Shard {
    ShardSource source;
    std::unique_ptr<std::byte[]> copy;
    bool is_full = false;
  };
  struct Checkpoint {
    int step = 0;
    std::size_t copied = 0;  // shards
    std::string failure;
    bool is_last = false;        // by replicas of servers
    bool puts_in_place = false;  // this process does, once all shards are there
  };
  // Who writes it: shards of ranks here, in the names of all.
  struct Party {
    std::vector<std::string> names;
    std::vector<Shard> shards;
  };

  Checkpoint* begun(int step);
  void work();
  void write(const Checkpoint& checkpoint);
  void write_shard(const std::string& folder, const Shard& shard, int step) const;
  void put_in_place(const Checkpoint& checkpoint);
  ShardFile wait_for(const std::string& folder, const std::string& name, const Checkpoint& checkpoint) const;
  Party& party(const Checkpoint& checkpoint) { return checkpoint.is_last ? replicas_ : owners_; }
  std::string unfinished(const Checkpoint& checkpoint) const;
  void remove_old(int step) const;
  std::string marker(int process) const;

  const CheckpointFolder& folder_;
  Manifest about_;
  CheckpointOptions options_;
  Party owners_, replicas_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Checkpoint> checkpoints_;  // begun and neither written nor given up
  std::int64_t newest_ = -1;
  int last_begun_ = -1;
  bool is_ending_ = false;
  std::thread thread_;
};

}  // namespace foretrain::exec
