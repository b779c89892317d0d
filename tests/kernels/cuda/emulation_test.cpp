// The emulation itself: kernels of a few lines, with results derived by hand.
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "kernels/cuda/device_code.h"

namespace foretrain::kernels::cuda {
namespace {

__global__ void number(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = block * threads + thread;
}

TEST(Emulation, EveryThreadOfEveryBlockOnce) {
  for (const std::uint64_t seed : {0, 1, 2}) {
    emulation::use_order(seed);
    std::vector<unsigned> out(2 * 3 * 4 * 64, 0);
    launch(number, {2, 3, 4}, {4, 8, 2}, Stream{}, out.data());
    for (unsigned i = 0; i < out.size(); ++i) {
      EXPECT_EQ(out[i], i);
    }
    launch(number, {0}, {32}, Stream{}, out.data());
  }
  emulation::use_order(0);
}

// Each thread reads what another one wrote before the barrier, through both kinds of shared memory.
__global__ void turn(int* x) {
  __shared__ int tile[64];
  int* const other = dynamic_shared<int>();
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  other[threadIdx.x] = tile[63 - threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = other[(threadIdx.x + 1) % 64];
}

__global__ void forgot_the_barrier(int* x) {
  __shared__ int tile[64];
  tile[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = tile[63 - threadIdx.x];
}

TEST(Emulation, BarriersOrderTheThreads) {
  for (const std::uint64_t seed : {0, 1, 2, 3}) {
    emulation::use_order(seed);
    std::vector<int> x(64);
    for (int i = 0; i < 64; ++i) {
      x[static_cast<std::size_t>(i)] = i;
    }
    launch_shared(turn, {1}, {64}, 64 * sizeof(int), Stream{}, x.data());
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(x[static_cast<std::size_t>(i)], 63 - (i + 1) % 64);
    }
  }
  // Without a barrier the result depends on the order: that is how it shows.
  std::vector<int> first(64, 1), second(64, 1);
  first[0] = second[0] = 7;
  emulation::use_order(0);
  launch(forgot_the_barrier, {1}, {64}, Stream{}, first.data());
  emulation::use_order(1);
  launch(forgot_the_barrier, {1}, {64}, Stream{}, second.data());
  EXPECT_NE(first, second);
  emulation::use_order(0);
}

// 0 + 1 + … + 31 = 496 in lane 0; lane ^ 5; lane 3's value; and twice in a row.
__global__ void shuffles(double* sum, int* crossed, float* third) {
  double x = threadIdx.x % 32;
  for (unsigned offset = 16; offset > 0; offset /= 2) {
    x += shuffle_down(x, offset);
  }
  if (threadIdx.x % 32 == 0) {
    sum[threadIdx.x / 32] = x;
  }
  crossed[threadIdx.x] = shuffle_xor(shuffle_xor(static_cast<int>(threadIdx.x), 1), 4);
  third[threadIdx.x] = shuffle(static_cast<float>(threadIdx.x), 3);
}

TEST(Emulation, Shuffles) {
  for (const std::uint64_t seed : {0, 1, 2, 3}) {
    emulation::use_order(seed);
    std::vector<double> sum(2);
    std::vector<int> crossed(64);
    std::vector<float> third(64);
    launch(shuffles, {1}, {64}, Stream{}, sum.data(), crossed.data(), third.data());
    EXPECT_EQ(sum, (std::vector<double>{496, 496}));
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(crossed[static_cast<std::size_t>(i)], i ^ 5);
      EXPECT_EQ(third[static_cast<std::size_t>(i)], i < 32 ? 3.0F : 35.0F);
    }
  }
  emulation::use_order(0);
}

// a[i,k] = i + k and b[k,j] = 1 where k == j, 2 where k == j + 8: c = 1 + (i + j) + 2 (i + j + 8).
__global__ void product(float* out) {
  const unsigned lane = threadIdx.x, g = lane / 4, t = 2 * (lane % 4);
  const auto pair = [](unsigned first, unsigned second) {
    return std::uint32_t{to_bf16(static_cast<float>(first)).bits} |
           std::uint32_t{to_bf16(static_cast<float>(second)).bits} << 16;
  };
  const std::uint32_t a[4] = {pair(g + t, g + t + 1), pair(g + 8 + t, g + 8 + t + 1), pair(g + t + 8, g + t + 9),
                              pair(g + 8 + t + 8, g + 8 + t + 9)};
  const std::uint32_t b[2] = {pair(t == g ? 1 : 0, t + 1 == g ? 1 : 0), pair(t == g ? 2 : 0, t + 1 == g ? 2 : 0)};
  float c[4] = {1, 1, 1, 1};
  mma_16x8x16(c, a, b);
  for (unsigned i = 0; i < 4; ++i) {
    out[(g + 8 * (i / 2)) * 8 + t + i % 2] = c[i];
  }
}

TEST(Emulation, MatrixUnits) {
  emulation::use_order(1);
  std::vector<float> out(128);
  launch(product, {1}, {32}, Stream{}, out.data());
  emulation::use_order(0);
  for (unsigned i = 0; i < 16; ++i) {
    for (unsigned j = 0; j < 8; ++j) {
      EXPECT_EQ(out[i * 8 + j], static_cast<float>(1 + (i + j) + 2 * (i + j + 8)));
    }
  }
}

// Element j of row i of matrix m is 64 m + 8 i + j: lane 4 g + t gets 64 m + 8 g + 2t and the next one, of the
// transposes 64 m + 16 t + g and 8 more. Rows come into shared memory by copies that nobody sees before they are
// finished.
__global__ void matrices(const std::uint16_t* from, std::uint32_t* out, std::uint16_t* early) {
  auto* const rows = dynamic_shared<std::uint16_t>();
  rows[8 * threadIdx.x] = 7;
  start_copy_16(rows + 8 * threadIdx.x, from + 8 * threadIdx.x);
  early[threadIdx.x] = rows[8 * threadIdx.x];
  finish_copies();
  __syncwarp();
  std::uint32_t plain[4], transposed[4];
  load_matrices(plain, rows + 8 * threadIdx.x);
  load_matrices_transposed(transposed, rows + 8 * threadIdx.x);
  for (unsigned m = 0; m < 4; ++m) {
    out[8 * threadIdx.x + m] = plain[m];
    out[8 * threadIdx.x + 4 + m] = transposed[m];
  }
}

TEST(Emulation, MatricesOfSharedMemory) {
  emulation::use_order(1);
  alignas(16) std::uint16_t from[256];
  for (unsigned i = 0; i < 256; ++i) {
    from[i] = static_cast<std::uint16_t>(i);
  }
  std::vector<std::uint32_t> out(256);
  std::vector<std::uint16_t> early(32);
  launch_shared(matrices, {1}, {32}, sizeof(from), Stream{}, static_cast<const std::uint16_t*>(from), out.data(),
                early.data());
  emulation::use_order(0);
  EXPECT_EQ(early, std::vector<std::uint16_t>(32, 7));
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned m = 0; m < 4; ++m) {
      const unsigned plain = 64 * m + 8 * g + 2 * t, transposed = 64 * m + 16 * t + g;
      EXPECT_EQ(out[8 * lane + m], (plain + 1) << 16 | plain);
      EXPECT_EQ(out[8 * lane + 4 + m], (transposed + 8) << 16 | transposed);
    }
  }
}

__global__ void leaves_early() {
  if (threadIdx.x > 0) {
    __syncthreads();
  }
}

__global__ void half_a_warp() {
  if (threadIdx.x < 16) {
    shuffle(1, 0);
  } else {
    __syncthreads();
  }
}

__global__ void breaks_an_invariant() {
  if (threadIdx.x == 5) {
    trap();
  }
  __syncthreads();
}

TEST(Emulation, MistakesAreTold) {
  EXPECT_THROW(launch(leaves_early, {1}, {32}, Stream{}), InternalError);
  EXPECT_THROW(launch(half_a_warp, {1}, {32}, Stream{}), InternalError);
  EXPECT_THROW(launch(breaks_an_invariant, {1}, {32}, Stream{}), InternalError);
  EXPECT_THROW(launch(breaks_an_invariant, {1}, {31}, Stream{}), InternalError);
  EXPECT_THROW(launch(breaks_an_invariant, {1}, {2048}, Stream{}), InternalError);
  EXPECT_THROW(launch(breaks_an_invariant, {1, 70000}, {32}, Stream{}), InternalError);
  std::vector<unsigned> out(32);
  launch(number, {1}, {32}, Stream{}, out.data());
  EXPECT_EQ(out[31], 31U);
}

}  // namespace
}  // namespace foretrain::kernels::cuda
