// device_code.h for compilers that know no CUDA: kernels run on the host, on the calling thread, before launch returns.
// A block's threads are fibers that run until they must wait for each other; what is wrong among them (a barrier that
// some thread never reaches, part of a warp in a shuffle) is an InternalError out of launch. The functions are
// described in native.h.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define FORETRAIN_UNROLL

namespace foretrain::kernels::cuda {

inline constinit thread_local Extent threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

// The order in which the calling thread's launches take blocks, and threads between two barriers: 0 is theirs, any
// other seed a random one. A kernel's result may not depend on it.
void use_order(std::uint64_t seed);

void run(const std::function<void()>& thread, Extent grid, Extent block, std::size_t shared_bytes);
void* shared_memory();
void wait_for_block();
void wait_for_warp();
// Hands `bytes` (kExchanged at most) to the warp's other lanes and waits for theirs; returns 32 values, kExchanged
// bytes apart, valid until this lane's exchange after the next.
constexpr std::size_t kExchanged = 24;
const unsigned char* exchange(const void* value, std::size_t bytes);
unsigned lane();

}  // namespace emulation

template <class... P, class... A>
void launch_shared(void (*kernel)(P...), Extent grid, Extent block, std::size_t shared_bytes, const Stream&,
                   A... arguments) {
  emulation::run([&] { kernel(arguments...); }, grid, block, shared_bytes);
}

template <class... P, class... A>
void launch(void (*kernel)(P...), Extent grid, Extent block, const Stream& stream, A... arguments) {
  launch_shared(kernel, grid, block, 0, stream, arguments...);
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::shared_memory());
}

inline void __syncthreads() {
  emulation::wait_for_block();
}
inline void __syncwarp() {
  emulation::wait_for_warp();
}

template <class T>
T shuffle(T x, unsigned lane) {
  const unsigned char* const values = emulation::exchange(&x, sizeof(T));
  T theirs;
  std::memcpy(&theirs, values + emulation::kExchanged * (lane % kWarp), sizeof(T));
  return theirs;
}
template <class T>
T shuffle_down(T x, unsigned offset) {
  const unsigned from = emulation::lane() + offset;
  return shuffle(x, from < kWarp ? from : emulation::lane());
}
template <class T>
T shuffle_xor(T x, unsigned mask) {
  return shuffle(x, emulation::lane() ^ mask);
}

void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);

void load_matrices(std::uint32_t (&to)[4], const void* row);
void load_matrices_transposed(std::uint32_t (&to)[4], const void* row);

// Nothing is copied before finish_copies: who reads too early sees what stood there.
void start_copy_16(void* to, const void* from);
void finish_copies();

template <int kBytes>
void load_piece(void* to, const void* from) {
  std::memcpy(to, __builtin_assume_aligned(from, kBytes), kBytes);
}
template <int kBytes>
void store_piece(void* to, const void* from) {
  std::memcpy(__builtin_assume_aligned(to, kBytes), from, kBytes);
}

struct CosSin {
  double cos, sin;
};
CosSin cos_sin_of_turns(double u);

void trap();

inline Bf16 to_bf16(float x) {
  return Bf16(x);
}
inline std::uint32_t bf16_pair(float low, float high) {
  return std::uint32_t{to_bf16(high).bits} << 16 | to_bf16(low).bits;
}
inline float power_of_2(float x) {
  return std::exp2(x);
}

}  // namespace foretrain::kernels::cuda
