// A real run of a job on this machine, as `run` and `compare` do it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "cli/console.h"
#include "cli/device.h"
#include "cli/interrupt.h"
#include "cli/job.h"
#include "exec/data.h"
#include "exec/executor.h"
#include "exec/processes.h"
#include "plan/channel.h"

namespace foretrain::cli {

// InputError for a job of another cluster than this machine, or of another number of hosts than the `processes` live on
// (a job of one host may run on several); InfeasibleError, with what would fit, for one that does not fit in the host's
// memory. A GPU's is the executor's to check.
void check_runnable(const JobArguments& arguments, const plan::Job& job, const plan::PlanGraph& graph,
                    const exec::Processes& processes, const DeviceArguments& device);

struct MeasureOptions {
  int first_step = 0;  // the executor's next
  int steps = 1;
  int traced_steps = 0;  // the last so many
  std::string device = "cpu";
  std::chrono::milliseconds timeout{60000};
  std::vector<double> speeds;  // as exec::RunOptions
  plan::ReadRate storage;
  exec::StateKeeper* keeper = nullptr;                     // with one, an interrupted run gets the time to end its step
  std::function<void(int steps_done)> ended = [](int) {};  // also of an interrupted run; all steps count
  std::function<void(const std::string&)> lost = [](const std::string&) {};  // as exec::RunOptions::on_lost
};

struct Measurement {
  exec::RunResult result;
  plan::Timeline timeline;    // of the traced steps; starts with the first of them
  plan::Staleness staleness;  // of asynchronous updates
  // Of asynchronous workers, those of this run of which every server has taken its part.
  std::vector<std::int64_t> updates;
};

// What a job's cluster holds its ranks back to: slow devices, the storage.
void hold_back(MeasureOptions& options, const plan::Job& job, const plan::PlanGraph& graph);

// Runs it with a progress bar. Throws Interrupted after Ctrl-C.
Measurement measure(exec::Executor& executor, const plan::PlanGraph& graph, const MeasureOptions& options,
                    const InterruptWatch& watch, const Console& console);

// What every call of the executor of this run is told.
exec::RunOptions run_options(std::chrono::milliseconds timeout, const InterruptWatch& watch);

}  // namespace foretrain::cli
