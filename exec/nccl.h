// NCCL as a collective library. Opened when asked for: a machine with one GPU needs none.
#pragma once

#include <memory>

#include "exec/collectives.h"

namespace foretrain::exec {

// `native` gives the cudaStream_t of a stream. The calling thread's GPU is the one that will exchange. Throws
// EnvironmentError where NCCL was absent when this program was built, or is absent now.
std::unique_ptr<CollectiveLibrary> open_nccl(void* (*native)(GpuStream));

}  // namespace foretrain::exec
