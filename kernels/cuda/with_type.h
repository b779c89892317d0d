// From element types known when a launcher is called to types of the language, or to a switch in the kernel.
#pragma once

#include "kernels/cuda/device_code.h"
#include "kernels/fp16.h"
#include "kernels/tensor.h"

namespace foretrain::kernels::cuda {

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>) with the type of an element that is not fp64; tf32 is stored as fp32.
template <class F>
void with_stored(Dtype d, F f) {
  d == Dtype::bf16 ? f(Type<Bf16>{}) : f(Type<float>{});
}

template <class F>
void with_type(Dtype d, F f) {
  if (d == Dtype::fp64) {
    f(Type<double>{});
  } else {
    with_stored(d, f);
  }
}

// What ranks exchange: fp16 too.
template <class F>
void with_exchanged(Dtype d, F f) {
  if (d == Dtype::fp16) {
    f(Type<Fp16>{});
  } else {
    with_type(d, f);
  }
}

// With two types of one arithmetic.
template <class F>
void with_types(Dtype a, Dtype b, F f) {
  if (a == Dtype::fp64) {
    f(Type<double>{}, Type<double>{});
  } else {
    with_stored(a, [&](auto ta) { with_stored(b, [&](auto tb) { f(ta, tb); }); });
  }
}

// Elements of a type known when the kernel runs: few operations for each, and many types together.
struct AnyTensor {
  void* data;
  Dtype dtype;

  template <class W>
  __device__ W load(std::int64_t i) const {
    switch (dtype) {
      case Dtype::fp64: return static_cast<W>(static_cast<const double*>(data)[i]);
      case Dtype::bf16: return static_cast<W>(widen(static_cast<const Bf16*>(data)[i]));
      default: return static_cast<W>(static_cast<const float*>(data)[i]);
    }
  }
  template <class W>
  __device__ void store(std::int64_t i, W x) const {
    switch (dtype) {
      case Dtype::fp64: static_cast<double*>(data)[i] = static_cast<double>(x); break;
      case Dtype::bf16: static_cast<Bf16*>(data)[i] = narrow<Bf16>(x); break;
      default: static_cast<float*>(data)[i] = static_cast<float>(x); break;
    }
  }
};

inline AnyTensor any(ConstTensor t) {
  return {const_cast<void*>(t.data), t.dtype};
}

template <class T>
const T* as(ConstTensor t) {
  return static_cast<const T*>(t.data);
}
template <class T>
T* as(Tensor t) {
  return static_cast<T*>(t.data);
}

}  // namespace foretrain::kernels::cuda
