// Files of checkpoints: what is damaged is refused by name and the one before is used; a writer that is killed at any
// point leaves what was there before, or what it wrote, whole; a full disk costs a checkpoint and nothing else.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "exec/checkpoint_shard_reader.h"
#include "tests/exec/checkpoint_support.h"
#include "tests/support/temporary_folder.h"

namespace foretrain::exec {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;
using testing::Overrides;
using testing::Trained;

// Small: a layer, and two ranks that each write a file.
const Overrides kSmall = {{"precision", "fp32"},
                          {"workload.model.layers", "1"},
                          {"workload.model.hidden", "8"},
                          {"workload.model.heads", "1"},
                          {"workload.model.head_dim", "8"},
                          {"workload.model.ffn_hidden", "8"},
                          {"global_batch", "4"},
                          {"seq_len", "4"},
                          {"dp", "2"},
                          {"zero", "1"}};

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Trains so many steps with a checkpoint after each.
void train(const std::string& place, int steps, CheckpointOptions options = {}) {
  const CheckpointFolder folder(place, {});
  Trained run(testing::kTinyGpt, kSmall);
  options.every = 1;
  CheckpointWriter writer(folder, run.executor.memory(), run.about(), options);
  run.run(steps, &writer);
  writer.keep_all(run.executor.memory(), steps);
}

// Every piece of the file's name and reason: "…/rank-00000.shard: …".
std::vector<std::string> refused_in(const std::string& place, std::int64_t expected_step) {
  const CheckpointFolder folder(place, {});
  std::vector<std::string> refused;
  const auto manifest = folder.newest([&](const std::string& why) { refused.push_back(why); });
  EXPECT_EQ(manifest ? manifest->step : -1, expected_step);
  return refused;
}

TEST(CheckpointFiles, EveryFlippedByteAndEveryCutIsFoundByName) {
  const TemporaryFolder place;
  train(place.path("c"), 2);
  EXPECT_EQ(refused_in(place.path("c"), 2), std::vector<std::string>{});
  for (const char* const name : {"manifest.json", "rank-00000.shard", "rank-00001.shard"}) {
    const std::string path = place.path("c") + "/step-00000002/" + name, sound = read(path);
    const auto expect_damaged = [&](const std::string& bytes, std::size_t at) {
      overwrite(path, bytes);
      const std::string reason = damage(place.path("c") + "/step-00000002", 2, 0, 1);
      EXPECT_TRUE(reason.find(name) != std::string::npos) << name << " at " << at << ": " << reason;
    };
    // Regions: every byte of what stands first, of the rest some, and the last; a flip of a manifest's blank may leave
    // JSON that says the same, and is no damage.
    for (std::size_t at = 0; at < sound.size(); at += at < 160 ? 1 : 131) {
      std::string bytes = sound;
      bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
      if (sound[at] != ' ' && sound[at] != '\n') {
        expect_damaged(bytes, at);
      }
    }
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{17},
                                   sound.size() / 2, sound.size() - 2}) {
      expect_damaged(sound.substr(0, size), size);
    }
    if (std::string(name) != "manifest.json") {
      expect_damaged(sound + "x", sound.size());
    }
    fs::remove(path);
    EXPECT_NE(damage(place.path("c") + "/step-00000002", 2, 0, 1).find("is missing"), std::string::npos);
    const std::vector<std::string> refused = refused_in(place.path("c"), 1);
    ASSERT_EQ(refused.size(), 1u);
    EXPECT_NE(refused[0].find(std::string("step-00000002/") + name + ": is missing"), std::string::npos) << refused[0];
    overwrite(path, sound);
  }
  // A sound file, but of another step.
  const std::string first = place.path("c") + "/step-00000001/rank-00000.shard",
                    second = place.path("c") + "/step-00000002/rank-00000.shard";
  overwrite(second, read(first));
  const std::string reason = refused_in(place.path("c"), 1).at(0);
  EXPECT_NE(reason.find("step-00000002/rank-00000.shard: "), std::string::npos) << reason;
  // None is left.
  fs::remove(first);
  EXPECT_EQ(refused_in(place.path("c"), -1).size(), 2u);
}

TEST(CheckpointFiles, KeepsTheNewestAndRemovesLeftovers) {
  const TemporaryFolder place;
  for (const auto& [keep, expected] :
       {std::pair<int, std::vector<std::int64_t>>{1, {5}}, {2, {4, 5}}, {9, {1, 2, 3, 4, 5}}}) {
    const std::string c = place.path("keep" + std::to_string(keep));
    CheckpointOptions options;
    options.keep = keep;
    train(c, 5, options);
    EXPECT_EQ(checkpoint_steps(c), expected);
    fs::create_directories(c + "/.unfinished-1234-step-00000006");
    overwrite(c + "/.unfinished-1234-step-00000006/rank-00000.shard", "half");
    fs::create_directories(c + "/step-6");  // no name of ours
    EXPECT_EQ(refused_in(c, 5), std::vector<std::string>{});
    const auto entries = std::distance(fs::directory_iterator(c), fs::directory_iterator());
    EXPECT_EQ(static_cast<std::size_t>(entries), expected.size() + 1);
  }
}

TEST(CheckpointFiles, ADamagedOneGivesWayAndDoesNotCount) {
  const TemporaryFolder place;
  const std::string c = place.path("c");
  train(c, 3);
  overwrite(c + "/step-00000003/manifest.json", "{}");
  {
    const CheckpointFolder folder(c, {});
    Trained run(testing::kTinyGpt, kSmall);
    ASSERT_EQ(run.resume(folder), 2);
    CheckpointOptions options;
    options.every = 1;
    options.keep = 1;
    CheckpointWriter writer(folder, run.executor.memory(), run.about(), options);
    run.run(2, &writer);
    writer.keep_all(run.executor.memory(), 4);
  }
  EXPECT_EQ(checkpoint_steps(c), std::vector<std::int64_t>{4});
  EXPECT_EQ(refused_in(c, 4), std::vector<std::string>{});
}

TEST(CheckpointFiles, AKilledWriterLeavesWholeCheckpoints) {
  const TemporaryFolder place;
  const std::vector<double> whole = Trained(testing::kTinyGpt, kSmall).run(6);
  // The points of one checkpoint, in order.
  std::vector<std::string> points;
  {
    CheckpointOptions options;
    options.at = [&](std::string_view point) { points.emplace_back(point); };
    options.keep = 1;
    train(place.path("points"), 2, options);
  }
  EXPECT_EQ(
      (std::set<std::string>(points.begin(), points.end())),
      (std::set<std::string>{"begin", "in a shard", "behind a shard", "before the manifest", "behind the manifest",
                             "before the renaming", "behind the renaming", "in removing"}));
  for (std::size_t fatal = 0; fatal < points.size(); ++fatal) {
    const std::string c = place.path("c" + std::to_string(fatal));
    const pid_t child = ::fork();
    if (child == 0) {
      std::size_t passed = 0;
      CheckpointOptions options;
      options.keep = 1;
      options.at = [&](std::string_view) {
        if (passed++ == fatal) {
          ::raise(SIGKILL);
        }
      };
      train(c, 2, options);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << points[fatal];
    const CheckpointFolder folder(c, {});
    Trained run(testing::kTinyGpt, kSmall);
    std::vector<std::string> refused;
    const std::int64_t step = std::max<std::int64_t>(0, run.resume(folder, &refused));
    EXPECT_EQ(refused, std::vector<std::string>{}) << points[fatal];
    // The first of two is there once it has its name; it goes only when the second one has.
    const auto renamed =
        static_cast<std::size_t>(std::find(points.begin(), points.end(), "behind the renaming") - points.begin());
    EXPECT_GE(step, fatal >= renamed ? 1 : 0) << points[fatal];
    EXPECT_EQ(run.run(static_cast<int>(6 - step)), std::vector<double>(whole.begin() + step, whole.end()))
        << points[fatal];
  }
}

TEST(CheckpointFiles, AFullDiskCostsOneCheckpoint) {
  const TemporaryFolder place;
  const std::string c = place.path("c");
  train(c, 1);
  const auto bytes = static_cast<rlim_t>(fs::file_size(c + "/step-00000001/rank-00000.shard"));
  const CheckpointFolder folder(c, {});
  Trained run(testing::kTinyGpt, kSmall);
  ASSERT_EQ(run.resume(folder), 1);
  CheckpointOptions options;
  options.every = 1;
  std::vector<std::string> warnings;
  options.warn = [&](const std::string& why) { warnings.push_back(why); };
  CheckpointWriter writer(folder, run.executor.memory(), run.about(), options);
  writer.set_newest(1);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = bytes / 2;
  auto* const handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  run.run(1, &writer);
  writer.keep_all(run.executor.memory(), 2);
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("no checkpoint of step 2: "), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("rank-00000.shard: cannot be written: File too large; training goes on, "),
            std::string::npos)
      << warnings[0];
  EXPECT_NE(warnings[0].find("step-00000001 is the newest"), std::string::npos) << warnings[0];
  EXPECT_EQ(checkpoint_steps(c), std::vector<std::int64_t>{1});
  run.run(1, &writer);
  writer.keep_all(run.executor.memory(), 3);
  EXPECT_EQ(warnings.size(), 1u);
  EXPECT_EQ(checkpoint_steps(c), (std::vector<std::int64_t>{1, 3}));
}

// The writer stands still until the step after has ended: that is only possible beside training.
TEST(CheckpointFiles, TrainingGoesOnWhileOneIsWritten) {
  const TemporaryFolder place;
  const CheckpointFolder folder(place.path("c"), {});
  Trained run(testing::kTinyGpt, kSmall);
  std::promise<void> gone_on;
  CheckpointOptions options;
  options.every = 2;
  options.at = [&, future = gone_on.get_future().share()](std::string_view point) {
    if (point == "begin") {
      future.wait();
    }
  };
  CheckpointWriter writer(folder, run.executor.memory(), run.about(), options);
  RunOptions training;
  training.steps = 3;
  training.keeper = &writer;
  training.on_step = [&](int step, double, double) {
    if (step == 2) {
      gone_on.set_value();
    }
  };
  run.executor.run(training);
  writer.keep_all(run.executor.memory(), 3);
  EXPECT_EQ(checkpoint_steps(place.path("c")), (std::vector<std::int64_t>{2, 3}));
}

// The next one waits for a copy to be free, and not for ever.
TEST(CheckpointFiles, OneThatIsNotWrittenInTimeCostsTheNextOne) {
  const TemporaryFolder place;
  const CheckpointFolder folder(place.path("c"), {});
  Trained run(testing::kTinyGpt, kSmall);
  std::promise<void> done;
  std::vector<std::string> warnings;
  CheckpointOptions options;
  options.every = 1;
  options.patience = std::chrono::milliseconds(100);
  options.warn = [&](const std::string& why) { warnings.push_back(why); };
  options.at = [&, future = done.get_future().share()](std::string_view point) {
    if (point == "begin") {
      future.wait();
    }
  };
  CheckpointWriter writer(folder, run.executor.memory(), run.about(), options);
  const std::vector<double> losses = run.run(2, &writer);
  done.set_value();
  writer.keep_all(run.executor.memory(), 2);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("no checkpoint of step 2: the one before is still being written"), std::string::npos)
      << warnings[0];
  EXPECT_EQ(checkpoint_steps(place.path("c")), std::vector<std::int64_t>{1});
  EXPECT_EQ(losses, Trained(testing::kTinyGpt, kSmall).run(2));
}

TEST(CheckpointFiles, AFolderIsOneRuns) {
  const TemporaryFolder place;
  overwrite(place.path("file"), "");
  EXPECT_THROW(CheckpointFolder(place.path("file"), {}), EnvironmentError);
  EXPECT_THROW(CheckpointFolder(place.path("file/c"), {}), EnvironmentError);
}

// Two processes, as threads: each has a rank, and they meet where the real ones do.
class Meeting {
 public:
  explicit Meeting(int count) : count_(count) {}
  Peers peers(int number) {
    return {number, count_, [this, number](const std::string& mine) { return meet(number, mine); }};
  }

 private:
  std::vector<std::string> meet(int number, const std::string& mine) {
    std::unique_lock lock(mutex_);
    const std::size_t round = rounds_[number]++;
    given_.resize(std::max(given_.size(), round + 1));
    given_[round].resize(static_cast<std::size_t>(count_));
    given_[round][static_cast<std::size_t>(number)] = "=" + mine;
    changed_.notify_all();
    const auto all_there = [&] {
      return std::none_of(given_[round].begin(), given_[round].end(), [](const std::string& g) { return g.empty(); });
    };
    changed_.wait(lock, all_there);
    std::vector<std::string> all;
    for (const std::string& g : given_[round]) {
      all.push_back(g.substr(1));
    }
    return all;
  }
  int count_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, std::size_t> rounds_;
  std::vector<std::vector<std::string>> given_;
};

TEST(CheckpointFiles, ProcessesWriteTheirOwnShardsAndOneCommits) {
  const TemporaryFolder place;
  Trained run(testing::kTinyGpt, kSmall);
  run.run(2);
  Meeting meeting(2);
  const auto process = [&](int number, bool one_fails) {
    const CheckpointFolder folder(place.path("c"), meeting.peers(number));
    CheckpointOptions options;
    options.patience = std::chrono::seconds(20);
    std::vector<std::string> warnings;
    options.warn = [&](const std::string& why) { warnings.push_back(why); };
    options.at = [&](std::string_view point) {
      if (one_fails && number == 1 && point == "in a shard") {
        throw EnvironmentError("rank-00001.shard: cannot be written: No space left on device");
      }
    };
    const std::vector<RankMemory> mine = {run.executor.memory().at(static_cast<std::size_t>(number))};
    CheckpointWriter writer(folder, mine, run.about(), options);
    writer.keep_all(mine, one_fails ? 3 : 2);
    return warnings;
  };
  // Process 1's part of the second one does not come: process 0 hears why, and leaves nothing behind.
  for (const bool fails : {false, true}) {
    std::vector<std::string> warnings, other;
    std::thread second([&] { other = process(1, fails); });
    warnings = process(0, fails);
    second.join();
    EXPECT_EQ(checkpoint_steps(place.path("c")), std::vector<std::int64_t>{2});
    EXPECT_EQ(warnings.size(), fails ? 1u : 0u);
    EXPECT_EQ(other.size(), 0u);
  }
  EXPECT_EQ(refused_in(place.path("c"), 2), std::vector<std::string>{});
  // Each reads a share of the files, and both hear of a damaged one.
  overwrite(place.path("c") + "/step-00000002/rank-00001.shard", "");
  std::vector<std::string> heard(2);
  const auto look = [&](int number) {
    const CheckpointFolder folder(place.path("c"), meeting.peers(number));
    EXPECT_FALSE(
        folder.newest([&](const std::string& why) { heard[static_cast<std::size_t>(number)] = why; }).has_value());
  };
  std::thread second([&] { look(1); });
  look(0);
  second.join();
  EXPECT_NE(heard[0].find("rank-00001.shard"), std::string::npos);
  EXPECT_EQ(heard[0], heard[1]);
}

}  // namespace
}  // namespace foretrain::exec
