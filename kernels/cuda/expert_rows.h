// The rows of experts, [offsets[e], offsets[e + 1]), as kernels see them that do not know how many there are.
#pragma once

#include "kernels/cuda/block.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

using std::int32_t;

// Blocks that share an unknown number of rows or tiles, in turns: several for each multiprocessor of any GPU so far.
constexpr unsigned kTurnBlocks = 640;

// The expert of a row: the last one that begins at or before it.
__device__ inline int64_t expert_of(const int32_t* offsets, int64_t experts, int64_t row) {
  int64_t first = 0, past = experts;
  while (past - first > 1) {
    const int64_t middle = first + (past - first) / 2;
    if (offsets[middle] <= row) {
      first = middle;
    } else {
      past = middle;
    }
  }
  return first;
}

// Cuts each expert's rows in tiles of kRows, of which the last may be shorter, and calls f(expert, first row of the
// tile in the expert's) for this block's share: a block takes every gridDim.x-th tile.
template <int kRows, class F>
__device__ inline void each_row_tile(const int32_t* offsets, int experts, F f) {
  int row = static_cast<int>(blockIdx.x) * kRows;  // as if each expert's rows began at a tile
  for (int expert = 0; expert < experts; ++expert) {
    const int rows = ceil_div(offsets[expert + 1] - offsets[expert], kRows) * kRows;
    for (; row < rows; row += static_cast<int>(gridDim.x) * kRows) {
      f(expert, row);
    }
    row -= rows;
  }
}

}  // namespace foretrain::kernels::cuda
