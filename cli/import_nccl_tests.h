// `import` of what nccl-tests printed: a profile whose network is the measured one.
#pragma once

#include <string>
#include <vector>

#include "cli/console.h"

namespace foretrain::cli {

// `words`: files, and system=NAME (or a path), collective=KIND, ranks=N, nodes=N for what the files do not say. The
// profile goes to the file `output`, or to stdout where that is ""; `json`: as foretrain.import/1. Throws InputError.
int import_nccl_tests(const std::vector<std::string>& words, const std::string& output, bool json, Console& console);

}  // namespace foretrain::cli
