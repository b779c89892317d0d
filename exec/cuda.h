// GPUs by CUDA. What calls CUDA is a module, opened when asked for, so that the program itself needs neither CUDA nor a
// driver.
#pragma once

#include <memory>
#include <string>

#include "exec/gpu.h"

namespace foretrain::exec {

struct CudaState {
  bool is_built = false;   // this program has the module
  bool is_usable = false;  // and it finds a GPU
  std::string detail;      // what there is, or what is missing
  std::string remedy;      // "": nothing is to be done
};
CudaState cuda_state();

// Of the GPUs that this process sees the one with this index, counted round. Throws EnvironmentError, with what is
// missing and what to do.
std::unique_ptr<Gpu> open_cuda(int index);

}  // namespace foretrain::exec
