// The GPU's kernels as Launchers: part of the CUDA module.
#pragma once

#include <memory>

#include "kernels/cuda/libraries.h"
#include "kernels/cuda/stream.h"
#include "kernels/launchers.h"

namespace foretrain::exec {

// In a stream; its libraries are opened when first needed, by the thread that fills it.
std::unique_ptr<kernels::Launchers> cuda_launchers(const kernels::cuda::Stream& stream, double* scalar,
                                                   kernels::cuda::Order order);

}  // namespace foretrain::exec
