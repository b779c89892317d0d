// The language of our GPU kernels: CUDA's, of which nvcc compiles all, and any other compiler what stands here, for the
// host (emulation.h). A .cu file includes this header and no CUDA header.
//
//  * CUDA's words: __global__, __device__, __shared__ (static, of types without constructors), __launch_bounds__,
//    threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncwarp. A block is a whole number of warps.
//  * Ours: Extent, launch, dynamic_shared, shuffle_down, shuffle_xor, shuffle, mma_16x8x16, load_matrices,
//    start_copy_16, load_piece, store_piece, trap, cos_sin_of_turns, power_of_2, bf16_pair; widen and narrow; lane_row,
//    lane_column; FORETRAIN_UNROLL before a loop that must be unrolled, so that arrays stay in registers.
//  * Functions of <cmath> with std::. constexpr functions of other headers (philox.h, bf16.h) may be called.
//  * No CHECK: nvcc cannot read fmt's. Launchers check their arguments by functions of .cpp files (kernels/launch.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/bf16.h"
#include "kernels/cuda/stream.h"

namespace foretrain::kernels::cuda {

constexpr unsigned kWarp = 32;

}  // namespace foretrain::kernels::cuda

#ifdef __CUDACC__
#include "kernels/cuda/native.h"
#else
#include "kernels/cuda/emulation.h"
#endif

namespace foretrain::kernels::cuda {

// The type that T is computed in.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
__device__ inline Wide<T> widen(T x) {
  return static_cast<Wide<T>>(x);
}

// x rounded to T, to the nearest even.
template <class T, class W>
__device__ inline T narrow(W x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return to_bf16(static_cast<float>(x));
  } else if constexpr (std::is_class_v<T>) {
    return T(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}

// Where a lane's part of mma_16x8x16's result stands: this row and the one 8 further, this column and the next one.
__device__ inline int lane_row() {
  return static_cast<int>(threadIdx.x % kWarp) / 4;
}
__device__ inline int lane_column() {
  return static_cast<int>(threadIdx.x % 4) * 2;
}

template <class A, class B>
constexpr auto ceil_div(A a, B b) {
  return (a + b - 1) / b;
}

}  // namespace foretrain::kernels::cuda
