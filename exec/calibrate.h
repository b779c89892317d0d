// Measures how fast this machine really is, with fixed grids: matmuls, attention, memory-bound ops, collectives,
// messages, and how ranks that share cores and memory slow each other down. It sees no job and runs no training step.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

#include "topologies/profile.h"

namespace foretrain::exec {

struct CalibrateOptions {
  std::chrono::seconds budget{50};  // the grids are measured again and again, interleaved, until it is spent
  std::string name = "this-machine";
  std::string commit;   // of foretrain, for the profile
  std::string command;  // that was typed
  std::function<void(double fraction, const std::string& what)> on_progress;
  const std::atomic<bool>* interrupted = nullptr;  // then InterruptedCalibration is thrown
};

struct InterruptedCalibration {};

topologies::Profile calibrate(const CalibrateOptions& options);

}  // namespace foretrain::exec
