// The module that alone knows CUDA.
#pragma once

#include "exec/cuda.h"

namespace foretrain::exec {

inline constexpr const char* kCudaModule = "libforetrain_cuda.so";
inline constexpr const char* kCudaState = "foretrain_cuda_state";
inline constexpr const char* kOpenCuda = "foretrain_open_cuda";
using CudaStateFunction = void (*)(CudaState*);
// The caller owns the result. REQUIRES: a usable state.
using OpenCudaFunction = Gpu* (*)(int index, bool deterministic);

}  // namespace foretrain::exec
