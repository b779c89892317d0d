// What is left of memory where a process may take it: on its machine, and in the control groups that it is in.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/units.h"

namespace foretrain::exec {

struct MemoryLimit {
  std::string key;   // equal in processes that share it
  std::string name;  // "node7", "node7 (control group /job_4711)"
  Bytes left;        // pages of files that nobody uses count as left
};

// Those that the system says; `root` stands for /.
std::vector<MemoryLimit> memory_limits(const std::string& root = "");

// All processes together, each with its own; `all_gather` as of Processes. Throws InfeasibleError, in all alike, when
// those that share a limit need more than it has left. The message begins with what needs it and ends with the advice.
void require_memory(const std::function<std::vector<std::string>(const std::string&)>& all_gather,
                    const std::vector<MemoryLimit>& limits, Bytes needed, const std::string& what,
                    const std::string& advice);

}  // namespace foretrain::exec
