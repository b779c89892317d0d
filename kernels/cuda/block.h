// What kernels have in common: how threads share elements and rows, and sums over warps and blocks. All sums are added
// up in an order that depends on the sizes alone.
#pragma once

#include "kernels/cuda/device_code.h"

namespace foretrain::kernels::cuda {

using std::int64_t;

constexpr unsigned kThreads = 256;  // of a block, unless it says otherwise
constexpr unsigned kWarps = kThreads / kWarp;
constexpr int kEach = 4;  // elements of a thread in each_element
constexpr int64_t kBlockElements = int64_t{kThreads} * kEach;

inline unsigned blocks_of(int64_t n, int64_t each) {
  return static_cast<unsigned>(ceil_div(n, each));
}

// For a grid of blocks_of(n, kBlockElements): calls load(i), and then store(i, what it gave), for every i. All of a
// thread's loads come before its stores, so that they are under way together; an output may be an input.
template <class Load, class Store>
__device__ inline void each_element(int64_t n, Load load, Store store) {
  const int64_t first = blockIdx.x * kBlockElements + threadIdx.x;
  decltype(load(first)) value[kEach] = {};
  FORETRAIN_UNROLL for (int k = 0; k < kEach; ++k) {
    if (first + k * kThreads < n) {
      value[k] = load(first + k * kThreads);
    }
  }
  FORETRAIN_UNROLL for (int k = 0; k < kEach; ++k) {
    if (first + k * kThreads < n) {
      store(first + k * kThreads, value[k]);
    }
  }
}

// i = row * cols + col, by a division of 32 bits where that is enough: one of 64 takes several times as long.
struct Place {
  int64_t row, col;
};
__device__ inline Place place_of(int64_t i, int64_t cols) {
  if (((i | cols) >> 32) == 0) {
    const auto small = static_cast<std::uint32_t>(i), width = static_cast<std::uint32_t>(cols);
    return {small / width, small % width};
  }
  return {i / cols, i % cols};
}

__device__ inline unsigned lane() {
  return threadIdx.x % kWarp;
}
__device__ inline unsigned warp() {
  return threadIdx.x / kWarp;
}

struct Sum {
  template <class W>
  __device__ W operator()(W a, W b) const {
    return a + b;
  }
};
// A NaN stays one.
struct Greatest {
  template <class W>
  __device__ W operator()(W a, W b) const {
    return a > b || a != a ? a : b;
  }
};

// f over the values of the warp's lanes, in all of them.
template <class F, class W>
__device__ inline W over_warp(F f, W x) {
  for (unsigned mask = kWarp / 2; mask > 0; mask /= 2) {
    x = f(x, shuffle_xor(x, mask));
  }
  return x;
}

// f over the values of the block's kThreads threads, in all of them.
template <class F, class W>
__device__ inline W over_block(F f, W x) {
  __shared__ W of_warp[kWarps];
  x = over_warp(f, x);
  __syncthreads();  // everybody has read what stood there
  if (lane() == 0) {
    of_warp[warp()] = x;
  }
  __syncthreads();
  W all = of_warp[0];
  for (unsigned i = 1; i < kWarps; ++i) {
    all = f(all, of_warp[i]);
  }
  return all;
}

}  // namespace foretrain::kernels::cuda
