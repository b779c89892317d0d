// Where `run` and `compare` execute a job.
#pragma once

#include <memory>
#include <string>

#include "cli/options.h"
#include "exec/gpu.h"

namespace foretrain::cli {

struct DeviceArguments {
  std::string word = "cpu";

  void add_to(Options& options);
  bool is_gpu() const { return word != "cpu"; }
  // nullptr: on the CPU. Throws EnvironmentError where there is no such device.
  std::unique_ptr<exec::Gpu> open() const;
};

}  // namespace foretrain::cli
