// A command that a launcher has started in several processes at once: they do the same, and one of them speaks.
#pragma once

#include <functional>
#include <string>

#include "cli/console.h"
#include "exec/processes.h"
#include "plan/strategy.h"

namespace foretrain::cli {

// In every process: `prepare` reads what the command needs and returns a text that says what it found; then `command`
// does it. All but process 0 are mute. Throws, in all processes alike, what went wrong in the first whose preparation
// failed, and InputError where they found different things or are different programs. What the command throws is told
// to the others, which end too. The exit status.
int together(exec::Processes& processes, Console& console, const std::function<std::string()>& prepare,
             const std::function<int()>& command);

// Which rank lives where, for people: a line per process, with its role where there are several, and one per host whose
// ranks have no core each.
std::string rank_table(const exec::Processes& processes, const plan::Strategy& strategy);

}  // namespace foretrain::cli
