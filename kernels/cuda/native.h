// device_code.h for nvcc.
#pragma once

#include <cstring>

#include "kernels/cuda/runtime.h"

#define FORETRAIN_UNROLL _Pragma("unroll")

namespace foretrain::kernels::cuda {

// Runs the kernel once for each thread of each block, after what the stream holds. An empty grid launches nothing.
// `shared_bytes` are the memory that dynamic_shared gives each block. A launch that the runtime refuses is an
// EnvironmentError.
template <class... P, class... A>
void launch_shared(void (*kernel)(P...), Extent grid, Extent block, std::size_t shared_bytes, const Stream& stream,
                   A... arguments) {
  const auto start = [&](P... values) {
    void* addresses[] = {&values..., nullptr};
    launch_kernel(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, addresses);
  };
  start(arguments...);
}

template <class... P, class... A>
void launch(void (*kernel)(P...), Extent grid, Extent block, const Stream& stream, A... arguments) {
  launch_shared(kernel, grid, block, 0, stream, arguments...);
}

// The block's memory of this launch, 16-byte aligned.
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<T*>(memory);
}

// All 32 lanes of a warp take part. shuffle_down gives the value of the lane that many further (its own beyond the
// last), shuffle_xor of lane ^ mask, shuffle of `lane`.
template <class T>
__device__ inline T shuffle_down(T x, unsigned offset) {
  return __shfl_down_sync(0xffffffffU, x, offset);
}
template <class T>
__device__ inline T shuffle_xor(T x, unsigned mask) {
  return __shfl_xor_sync(0xffffffffU, x, static_cast<int>(mask));
}
template <class T>
__device__ inline T shuffle(T x, unsigned lane) {
  return __shfl_sync(0xffffffffU, x, static_cast<int>(lane));
}

// c[16,8] += a[16,16] b[16,8] in fp32, by the whole warp, a and b bf16. With g = lane / 4 and t = lane % 4, a lane has
//   a: rows g, g + 8, g, g + 8 and columns 2t, 2t, 2t + 8, 2t + 8 (two neighbours in a register, the first one low)
//   b: rows 2t and 2t + 8 (two neighbouring rows in a register) of column g
//   c: rows g, g, g + 8, g + 8 and columns 2t, 2t + 1, 2t, 2t + 1.
// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
__device__ inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements out of shared memory, by the whole warp: lane i gives the address of row i % 8
// of matrix i / 8, a whole piece of 16 bytes. to[m] becomes elements 2t and 2t + 1 of row g of matrix m, or of its
// transpose: what mma_16x8x16 takes as b.
__device__ inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ inline void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// 16 bytes, from and to whole pieces of them, from global to shared memory; they are there once the thread that started
// them has finished its copies.
__device__ inline void start_copy_16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from))
               : "memory");
}
__device__ inline void finish_copies() {
  asm volatile("cp.async.wait_all;" : : : "memory");
}

// kBytes, 8 or 16, from and to whole pieces of as many, between global memory and what will be registers.
template <int kBytes>
using PieceWords = std::conditional_t<kBytes == 16, uint4, uint2>;
template <int kBytes>
__device__ inline void load_piece(void* to, const void* from) {
  const auto piece = *static_cast<const PieceWords<kBytes>*>(from);
  std::memcpy(to, &piece, kBytes);
}
template <int kBytes>
__device__ inline void store_piece(void* to, const void* from) {
  std::uint32_t words[kBytes / 4];
  std::memcpy(words, from, kBytes);
  // Said so: what is put together of smaller elements would be stored as these.
  if constexpr (kBytes == 16) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(__cvta_generic_to_global(to)), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
  } else {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};"
                 :
                 : "l"(__cvta_generic_to_global(to)), "r"(words[0]), "r"(words[1])
                 : "memory");
  }
}

// Of the angle 2 pi u. A sine of any angle would need local memory to reduce it.
struct CosSin {
  double cos, sin;
};
__device__ inline CosSin cos_sin_of_turns(double u) {
  CosSin result;
  sincospi(2 * u, &result.sin, &result.cos);
  return result;
}

// A broken invariant: the launch fails, and what waits for it says so.
__device__ inline void trap() {
  __trap();
}

__device__ inline Bf16 to_bf16(float x) {
  Bf16 rounded;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(x));
  return rounded;
}

// Both rounded to bf16, `low` in the low half.
__device__ inline std::uint32_t bf16_pair(float low, float high) {
  std::uint32_t rounded;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(rounded) : "f"(high), "f"(low));
  return rounded;
}

// 2^x to 22 bits; what is too small for a normal number is 0.
__device__ inline float power_of_2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

}  // namespace foretrain::kernels::cuda
