// Part of the CUDA module: what its runtime reports as an error of ours.
#pragma once

#include <cuda_runtime.h>

#include "base/error.h"

namespace foretrain::exec {

inline void check_cuda(const char* call, cudaError_t error) {
  if (error != cudaSuccess) {
    throw EnvironmentError(fmt::format("CUDA: {}: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error)));
  }
}

}  // namespace foretrain::exec
