// `import` of Chakra execution traces: what one holds; of all ranks on a system, the step that they take.
#pragma once

#include <string>
#include <vector>

#include "cli/console.h"

namespace foretrain::cli {

// `words`: one trace; or with system=NAME the traces PREFIX.RANK.et of all ranks, or their folder, and nodes=N,
// dtype=WORD. Groups are those of comm_group.json beside the first. Throws InputError.
int import_chakra(const std::vector<std::string>& words, bool json, Console& console);

}  // namespace foretrain::cli
