// Where `run` and `compare` execute a job, and what `estimate` and `calibrate` speak of.
#pragma once

#include <memory>
#include <string>

#include "cli/job.h"
#include "cli/options.h"
#include "exec/gpu.h"
#include "exec/processes.h"

namespace foretrain::cli {

struct DeviceArguments {
  std::string word = "cpu";
  bool deterministic = false;

  void add_to(Options& options);
  void add_deterministic_to(Options& options);  // of what executes
  bool is_gpu() const { return word != "cpu"; }
  // The job; one of this machine's on its GPUs where the device is one: all ranks on one, or by several processes each
  // on its own.
  plan::Job load(const JobArguments& arguments, int processes) const;
  // nullptr: on the CPU. The processes of a host take its GPUs in turn. Throws EnvironmentError where there is no such
  // device.
  std::unique_ptr<exec::Gpu> open(const exec::Processes& processes) const;
};

}  // namespace foretrain::cli
