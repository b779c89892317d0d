// From element types known when a launcher is called to types of the language.
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

template <class T>
const T* as(ConstTensor t) {
  return static_cast<const T*>(t.data);
}
template <class T>
T* as(Tensor t) {
  return static_cast<T*>(t.data);
}

}  // namespace foretrain::kernels::cuda
