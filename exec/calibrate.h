// Measures how fast this machine, or a GPU of it, really is, with fixed grids: matmuls, attention, memory-bound ops,
// collectives, messages, how ranks that share cores and memory or a GPU slow each other down; of a GPU also what it
// costs the host, and compute beside communication. It sees no job and runs no training step.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

#include "exec/calibrate_scale.h"
#include "exec/gpu.h"
#include "exec/processes.h"
#include "topologies/profile.h"

namespace foretrain::exec {

struct CalibrateOptions {
  std::chrono::seconds budget{50};  // the grids are measured again and again, interleaved, until it is spent
  std::string name = "this-machine";
  std::string commit;   // of foretrain, for the profile
  std::string command;  // that was typed
  std::function<void(double fraction, const std::string& what)> on_progress;
  const std::atomic<bool>* interrupted = nullptr;  // then InterruptedCalibration is thrown
  Gpu* gpu = nullptr;                              // measures it, in place of the cores
  // With a GPU: where there are several, each with a GPU of its own, what they exchange is measured as well. All make
  // the same call; number 0's profile counts.
  Processes* processes = nullptr;
};

struct InterruptedCalibration {};

topologies::Profile calibrate(const CalibrateOptions& options);
// With another scale than the device's own.
topologies::Profile calibrate(const CalibrateOptions& options, const CalibrateScale& scale);

}  // namespace foretrain::exec
