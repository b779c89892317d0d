// Elements that are read and written several at a time: as many as there are in 16 bytes, with one instruction, where
// tensors stand for it; else one by one. Single elements of two bytes would leave half of the memory's bandwidth
// unused.
#pragma once

#include <cstring>
#include <initializer_list>

#include "kernels/cuda/block.h"
#include "kernels/tensor.h"

namespace foretrain::kernels::cuda {

template <class T>
constexpr int kWholePack = sizeof(T) == 8 ? 1 : 16 / static_cast<int>(sizeof(T));

// In the arithmetic of T.
template <class W, int kPack>
struct Values {
  W of[kPack] = {};
};

template <int kPack, class T>
__device__ inline Values<Wide<T>, kPack> read(const T* from) {
  alignas(16) T elements[kPack];
  if constexpr (kPack == 1) {
    elements[0] = *from;
  } else {
    constexpr int kBytes = kPack * static_cast<int>(sizeof(T)), kPiece = kBytes < 16 ? kBytes : 16;
    FORETRAIN_UNROLL for (int i = 0; i < kBytes; i += kPiece) {
      load_piece<kPiece>(reinterpret_cast<char*>(elements) + i, reinterpret_cast<const char*>(from) + i);
    }
  }
  Values<Wide<T>, kPack> values;
  FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
    values.of[k] = widen(elements[k]);
  }
  return values;
}

template <int kPack, class T>
__device__ inline void write(T* to, const Values<Wide<T>, kPack>& values) {
  alignas(16) T elements[kPack];
  FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
    elements[k] = narrow<T>(values.of[k]);
  }
  if constexpr (kPack == 1) {
    *to = elements[0];
  } else {
    constexpr int kBytes = kPack * static_cast<int>(sizeof(T)), kPiece = kBytes < 16 ? kBytes : 16;
    FORETRAIN_UNROLL for (int i = 0; i < kBytes; i += kPiece) {
      store_piece<kPiece>(reinterpret_cast<char*>(to) + i, reinterpret_cast<const char*>(elements) + i);
    }
  }
}

// f(k) for each element of a pack.
template <int kPack, class F>
__device__ inline auto each_of_pack(F f) {
  Values<decltype(f(0)), kPack> values;
  FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
    values.of[k] = f(k);
  }
  return values;
}

// A block has this many packs of each_pack; two of a thread's are under way together.
constexpr int kPacksEach = 2;
template <int kPack>
constexpr int64_t kBlockPacked = int64_t{kThreads} * (kPack == 1 ? kEach : kPacksEach) * kPack;

// each_element, a pack at a time; n is a multiple of kPack.
template <int kPack, class Load, class Store>
__device__ inline void each_pack(int64_t n, Load load, Store store) {
  constexpr int kMany = kPack == 1 ? kEach : kPacksEach;
  const int64_t first = blockIdx.x * kBlockPacked<kPack> + int64_t{threadIdx.x} * kPack;
  decltype(load(first)) value[kMany] = {};
  FORETRAIN_UNROLL for (int k = 0; k < kMany; ++k) {
    const int64_t i = first + int64_t{kThreads} * kPack * k;
    if (i < n) {
      value[k] = load(i);
    }
  }
  FORETRAIN_UNROLL for (int k = 0; k < kMany; ++k) {
    const int64_t i = first + int64_t{kThreads} * kPack * k;
    if (i < n) {
      store(i, value[k]);
    }
  }
}

template <int kPack>
struct PackSize {
  static constexpr int value = kPack;
};

// Calls f(PackSize) for elements of T in rows of `cols`: whole packs where rows and all addresses are made of them.
template <class T, class F>
void with_pack(int64_t cols, std::initializer_list<const void*> tensors, F f) {
  bool whole = kWholePack<T> > 1 && cols % kWholePack<T> == 0;
  for (const void* tensor : tensors) {
    whole = whole && reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0;
  }
  if (whole) {
    f(PackSize<kWholePack<T>>{});
  } else {
    f(PackSize<1>{});
  }
}

}  // namespace foretrain::kernels::cuda
