// Products per expert, tile by tile; those in bf16 are grouped_tensor.cu's. How many rows an expert has is known on the
// device alone: blocks take the tiles of all experts' rows in turns.
#include "kernels/arguments.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/grouped.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kTile = 64;             // rows and columns of a block's tile of the result
constexpr int kDepth = 16;            // of the operands' tiles in shared memory
constexpr int kSide = 16;             // threads along each side of the tile
constexpr int kPart = kTile / kSide;  // rows and columns of a thread
static_assert(kSide * kSide == kThreads);

// Element (i, j) of an operand is at[i * row + j * col].
template <class T>
struct Operand {
  const T* at;
  int64_t row, col;
};

// The operand's tile [kDepth][kTile] from (i, l) on: its rows are what the tile's columns stand for. Elements beyond
// rows x depth are 0. Neighbouring threads read neighbouring elements, whichever way they lie.
template <class T>
__device__ void load_tile(const Operand<T>& x, int64_t i, int64_t rows, int64_t l, int64_t depth,
                          T (&tile)[kDepth][kTile + 1]) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kDepth; e += static_cast<int>(kThreads)) {
    const int at = x.col == 1 ? e / kDepth : e % kTile;
    const int d = x.col == 1 ? e % kDepth : e / kTile;
    tile[d][at] = i + at < rows && l + d < depth ? x.at[(i + at) * x.row + (l + d) * x.col] : T{0};
  }
}

// put(i, j, sum over l of a(i, l) b(j, l)) for the tile from (first_i, first_j) on, of m x n.
template <class T, class Put>
__device__ void tile_product(int64_t first_i, int64_t m, int64_t first_j, int64_t n, int64_t k, const Operand<T>& a,
                             const Operand<T>& b, Put put) {
  __shared__ T left[kDepth][kTile + 1], right[kDepth][kTile + 1];
  const int ti = static_cast<int>(threadIdx.x) / kSide, tj = static_cast<int>(threadIdx.x) % kSide;
  T sum[kPart][kPart] = {};
  for (int64_t l = 0; l < k; l += kDepth) {
    __syncthreads();  // everybody has read the last tiles
    load_tile(a, first_i, m, l, k, left);
    load_tile(b, first_j, n, l, k, right);
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
      T x[kPart], y[kPart];
      FORETRAIN_UNROLL for (int p = 0; p < kPart; ++p) {
        x[p] = left[d][ti + p * kSide];
        y[p] = right[d][tj + p * kSide];
      }
      FORETRAIN_UNROLL for (int p = 0; p < kPart; ++p) {
        FORETRAIN_UNROLL for (int q = 0; q < kPart; ++q) {
          sum[p][q] += x[p] * y[q];
        }
      }
    }
  }
  FORETRAIN_UNROLL for (int p = 0; p < kPart; ++p) {
    FORETRAIN_UNROLL for (int q = 0; q < kPart; ++q) {
      const int64_t i = first_i + ti + p * kSide, j = first_j + tj + q * kSide;
      if (i < m && j < n) {
        put(i, j, sum[p][q]);
      }
    }
  }
}

// y[row, j] = sum over l of x[row, l] w[e](j, l): of row major weights, or of transposed ones (w_row 1).
template <class T>
__global__ void __launch_bounds__(kThreads) rows_product(int experts, int64_t n, int64_t k, const int32_t* offsets,
                                                         const T* x, const T* w, int64_t w_row, int64_t w_col, T* y) {
  each_row_tile<kTile>(offsets, experts, [&](int expert, int row) {
    const int64_t first = offsets[expert];
    tile_product<T>(row, offsets[expert + 1] - first, int64_t{blockIdx.y} * kTile, n, k, {x + first * k, k, 1},
                    {w + int64_t{expert} * n * k, w_row, w_col},
                    [&](int64_t i, int64_t j, T sum) { y[(first + i) * n + j] = sum; });
  });
}

// dw[e](i, j) += sum over the expert's rows of dy[row, i] x[row, j].
template <class T>
__global__ void __launch_bounds__(kThreads)
    weights_product(int64_t out, int64_t in, const int32_t* offsets, const T* dy, const T* x, T* dw) {
  const int64_t expert = blockIdx.z, first = offsets[expert];
  tile_product<T>(int64_t{blockIdx.y} * kTile, out, int64_t{blockIdx.x} * kTile, in, offsets[expert + 1] - first,
                  {dy + first * out, 1, out}, {x + first * in, 1, in},
                  [&](int64_t i, int64_t j, T sum) { dw[(expert * out + i) * in + j] += sum; });
}

template <class F>
void with_wide(Dtype d, F f) {
  d == Dtype::fp64 ? f(Type<double>{}) : f(Type<float>{});
}

void multiply_rows(const Stream& stream, const GroupedShape& s, int64_t n, int64_t k, const int32_t* offsets,
                   ConstTensor x, ConstTensor w, int64_t w_row, int64_t w_col, Tensor y) {
  const unsigned columns = blocks_of(n, kTile);
  if (columns == 0) {
    return;
  }
  with_wide(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(rows_product<T>, {ceil_div(kTurnBlocks, columns), columns}, {kThreads}, stream, static_cast<int>(s.experts),
           n, k, offsets, as<T>(x), as<T>(w), w_row, w_col, as<T>(y));
  });
}

}  // namespace

void grouped_forward(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor x, ConstTensor w,
                     Tensor y) {
  arguments::grouped_forward(s, offsets, x, w, y);
  if (x.dtype == Dtype::bf16) {
    tensor_grouped_forward(stream, s, offsets, x, w, y);
    return;
  }
  multiply_rows(stream, s, s.out, s.in, offsets, x, w, s.in, 1, y);
}

void grouped_backward_input(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor dy,
                            ConstTensor w, Tensor dx) {
  arguments::grouped_backward_input(s, offsets, dy, w, dx);
  if (dy.dtype == Dtype::bf16) {
    tensor_grouped_backward_input(stream, s, offsets, dy, w, dx);
    return;
  }
  multiply_rows(stream, s, s.in, s.out, offsets, dy, w, 1, s.in, dx);
}

void grouped_backward_weight(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor dy,
                             ConstTensor x, Tensor dw) {
  arguments::grouped_backward_weight(s, offsets, dy, x, dw);
  if (dy.dtype == Dtype::bf16) {
    tensor_grouped_backward_weight(stream, s, offsets, dy, x, dw);
    return;
  }
  with_wide(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Extent grid{blocks_of(s.in, kTile), blocks_of(s.out, kTile), static_cast<unsigned>(s.experts)};
    launch(weights_product<T>, grid, {kThreads}, stream, s.out, s.in, offsets, as<T>(dy), as<T>(x), as<T>(dw));
  });
}

}  // namespace foretrain::kernels::cuda
