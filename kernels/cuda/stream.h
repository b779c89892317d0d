// Where a launcher of kernels::cuda puts its work, and how much.
#pragma once

#include <cstddef>

namespace foretrain::kernels::cuda {

// What a launcher may need beside its operands: sums of blocks, cuBLASLt's working memory.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

class Libraries;  // libraries.h

// A stream and device memory of its own. Launches on one stream run one after the other, so that all may use the same
// workspace; on several streams each needs its own.
struct Stream {
  void* handle = nullptr;          // a cudaStream_t; nullptr is the default stream
  void* workspace = nullptr;       // kWorkspaceBytes of device memory, 256-byte aligned
  Libraries* libraries = nullptr;  // asked first for what they can do; without them our own kernels do it all
  const double* guard = nullptr;   // where it is 0 when they run, kernels of the optimizer do nothing
};

// Blocks of a grid, threads of a block.
struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

}  // namespace foretrain::kernels::cuda
