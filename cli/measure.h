// A real run of a job on this machine, as `run` and `compare` do it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/job.h"
#include "exec/data.h"
#include "exec/executor.h"

namespace foretrain::cli {

// InputError for a job of another cluster than this machine; InfeasibleError, with what would fit, for one that does
// not fit in its memory.
void check_runnable(const JobArguments& arguments, const plan::Job& job, const plan::PlanGraph& graph);

struct MeasureOptions {
  int steps = 1;
  int traced_steps = 0;  // the last so many
  std::chrono::milliseconds timeout{60000};
};

struct Measurement {
  exec::RunResult result;
  plan::Timeline timeline;  // of the traced steps; starts with the first of them
};

// Runs it with a progress bar. Throws Interrupted after Ctrl-C.
Measurement measure(exec::Executor& executor, const plan::PlanGraph& graph, const MeasureOptions& options,
                    const InterruptWatch& watch, const Console& console);

// What every call of the executor of this run is told.
exec::RunOptions run_options(std::chrono::milliseconds timeout, const InterruptWatch& watch);

}  // namespace foretrain::cli
