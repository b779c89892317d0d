#include "kernels/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include "base/error.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr std::size_t kSharedBytesUnasked = 48 << 10;  // a kernel that wants more must say so first

void check(cudaError_t error, const void* kernel) {
  if (error != cudaSuccess) {
    const char* name = nullptr;
    throw EnvironmentError(fmt::format("CUDA: launch of {}: {}",
                                       cudaFuncGetName(&name, kernel) == cudaSuccess ? name : "a kernel",
                                       cudaGetErrorString(error)));
  }
}

}  // namespace

void launch_kernel(const void* kernel, Extent grid, Extent block, std::size_t shared_bytes, const Stream& stream,
                   void** arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
  if (shared_bytes > kSharedBytesUnasked) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          kernel);
  }
  check(cudaLaunchKernel(kernel, dim3(grid.x, grid.y, grid.z), dim3(block.x, block.y, block.z), arguments, shared_bytes,
                         static_cast<cudaStream_t>(stream.handle)),
        kernel);
}

}  // namespace foretrain::kernels::cuda
