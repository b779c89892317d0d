// Rotations of rotary positions. A block has a token: it computes the cosines and sines once, for all heads.
#pragma once

#include <cmath>
#include <numbers>

#include "kernels/cuda/block.h"

namespace foretrain::kernels::cuda {

// Of one position, [half] each, in the block's shared memory: turns_bytes of it.
template <class W>
struct Turns {
  const W* cos;
  const W* sin;
  int64_t half;
};

template <class W>
std::size_t turns_bytes(int64_t dim) {
  return static_cast<std::size_t>(dim) * sizeof(W);
}

// All threads of the block take part.
template <class W>
__device__ inline Turns<W> turns_at(int64_t position, int64_t dim, const RotaryFrequencies& frequencies) {
  const int64_t half = dim / 2;
  W* const cos = dynamic_shared<W>();
  W* const sin = cos + half;
  for (int64_t i = threadIdx.x; i < half; i += kThreads) {
    const double frequency =
        frequencies.scaled(std::pow(frequencies.base, -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
    const double turns = static_cast<double>(position) * frequency / (2 * std::numbers::pi);
    const CosSin angle = cos_sin_of_turns(turns - std::floor(turns));
    cos[i] = static_cast<W>(angle.cos);
    sin[i] = static_cast<W>(angle.sin);
  }
  __syncthreads();
  return {cos, sin, half};
}

// Columns i and i + half, turned forwards or (direction -1) back.
template <class W>
struct Turned {
  W low, high;
};
template <class W>
__device__ inline Turned<W> turned(const Turns<W>& t, W direction, int64_t i, W low, W high) {
  const W c = t.cos[i], n = direction * t.sin[i];
  return {low * c - high * n, high * c + low * n};
}

}  // namespace foretrain::kernels::cuda
