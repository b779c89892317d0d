// What a launcher sees of a buffer: an address and an element type. Sizes come with the call; rows are contiguous
// (row-major). No alignment is required beyond that of the element.
#pragma once

#include "base/dtype.h"

namespace foretrain::kernels {

struct ConstTensor {
  const void* data = nullptr;
  Dtype dtype = Dtype::fp32;
  explicit operator bool() const { return data != nullptr; }
};

struct Tensor {
  void* data = nullptr;
  Dtype dtype = Dtype::fp32;
  explicit operator bool() const { return data != nullptr; }
  operator ConstTensor() const { return {data, dtype}; }  // NOLINT: reading what may be written is always right
};

// What elements are in memory: tf32, a way to compute products, is fp32 there.
constexpr Dtype stored_type(Dtype d) {
  return d == Dtype::tf32 ? Dtype::fp32 : d;
}

// Type of arithmetic, of saved statistics and of parameter gradients: fp64 for fp64, else fp32.
constexpr Dtype wide(Dtype d) {
  return d == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
}

}  // namespace foretrain::kernels
