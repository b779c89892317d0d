// A run that is started again when it dies: the command runs itself as a child, and goes on from the last checkpoint.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/options.h"

namespace foretrain::cli {

struct SuperviseArguments {
  std::int64_t max_restarts = 0;
  std::string launch;  // words before the child's command

  void add_to(Options& options);
  bool wanted() const { return max_restarts > 0 || !launch.empty(); }
};

// `foretrain run` with these words, but for those of SuperviseArguments, as a child; again with --resume when it is
// killed by a signal or its environment fails (exit 5), at most so many times. `folder`: of its checkpoints. A run of
// which a process on this host is stopped for longer than `patience` is killed. An interrupt is passed on; throws
// Interrupted then. The exit status of the last child; 128 + signal for one that was killed.
int supervise(const std::vector<std::string>& words, const SuperviseArguments& arguments, const std::string& folder,
              std::chrono::seconds patience, Console& console);

}  // namespace foretrain::cli
