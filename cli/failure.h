// What a verb threw becomes a message on stderr and an exit status.
#pragma once

#include "cli/console.h"

namespace foretrain::cli {

// Says what is being thrown; the exit status. To be called in a catch.
int report_failure(Console& console);

}  // namespace foretrain::cli
