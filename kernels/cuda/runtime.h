// What launches of native.h ask of the CUDA runtime.
#pragma once

#include "kernels/cuda/stream.h"

namespace foretrain::kernels::cuda {

void launch_kernel(const void* kernel, Extent grid, Extent block, std::size_t shared_bytes, const Stream& stream,
                   void** arguments);

}  // namespace foretrain::kernels::cuda
