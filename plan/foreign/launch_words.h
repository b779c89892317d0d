// The words with which a launch script starts training: of torchrun, srun, mpirun and sbatch how many nodes and
// devices, of the training script its settings.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plan/foreign/settings.h"

namespace foretrain::plan {

struct LaunchWords {
  bool is_script = false;  // or nothing but settings
  std::string program;     // "pretrain_gpt.py"; "" where nothing is started
  std::vector<Setting> settings;
  std::optional<std::int64_t> nodes, devices_per_node, ranks;
  std::string said_by;             // "--nnodes, --nproc-per-node"
  std::vector<std::string> notes;  // what was left out
};

// A script is a file whose first word is no --setting. Of several commands that start Python with settings the longest
// counts. Throws InputError where there is none.
LaunchWords launch_words(const std::string& text, const std::string& origin,
                         const std::map<std::string, std::string>& variables);

}  // namespace foretrain::plan
