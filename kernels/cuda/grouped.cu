// Products per expert, tile by tile, in the wide type. How many rows an expert has is known on the device alone: blocks
// take the tiles of all experts' rows in turns.
#include "kernels/arguments.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/kernels.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kTile = 64;             // rows and columns of a block's tile of the result
constexpr int kDepth = 16;            // of the operands' tiles in shared memory
constexpr int kSide = 16;             // threads along each side of the tile
constexpr int kPart = kTile / kSide;  // rows and columns of a thread
static_assert(kSide * kSide == kThreads);

// Element (i, j) of an operand is its i * row + j * col after `first`.
struct Operand {
  AnyTensor tensor;
  int64_t first, row, col;
};

// The operand's tile [kDepth][kTile] from (i, l) on: `along` rows of it are what the tile's columns stand for. Elements
// beyond rows x depth are 0. Neighbouring threads read neighbouring elements, whichever way they lie.
template <class W>
__device__ void load_tile(const Operand& x, int64_t i, int64_t rows, int64_t l, int64_t depth,
                          W (&tile)[kDepth][kTile + 1]) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kDepth; e += static_cast<int>(kThreads)) {
    const int at = x.col == 1 ? e / kDepth : e % kTile;
    const int d = x.col == 1 ? e % kDepth : e / kTile;
    const bool inside = i + at < rows && l + d < depth;
    tile[d][at] = inside ? x.tensor.load<W>(x.first + (i + at) * x.row + (l + d) * x.col) : W{0};
  }
}

// put(i, j, sum over l of a(i, l) b(j, l)) for the tile from (first_i, first_j) on, of m x n.
template <class W, class Put>
__device__ void tile_product(int64_t first_i, int64_t m, int64_t first_j, int64_t n, int64_t k, const Operand& a,
                             const Operand& b, Put put) {
  __shared__ W left[kDepth][kTile + 1], right[kDepth][kTile + 1];
  const int ti = static_cast<int>(threadIdx.x) / kSide, tj = static_cast<int>(threadIdx.x) % kSide;
  W sum[kPart][kPart] = {};
  for (int64_t l = 0; l < k; l += kDepth) {
    __syncthreads();  // everybody has read the last tiles
    load_tile(a, first_i, m, l, k, left);
    load_tile(b, first_j, n, l, k, right);
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
      W x[kPart], y[kPart];
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
template <class W>
__global__ void __launch_bounds__(kThreads)
    rows_product(int64_t experts, int64_t n, int64_t k, const int32_t* offsets, AnyTensor x, AnyTensor w, int64_t w_row,
                 int64_t w_col, AnyTensor y) {
  int64_t expert = 0, before = 0;  // tiles of the experts before
  for (int64_t tile = blockIdx.x;; tile += gridDim.x) {
    int64_t tiles = 0;
    while (expert < experts) {
      tiles = ceil_div(int64_t{offsets[expert + 1] - offsets[expert]}, int64_t{kTile});
      if (tile < before + tiles) {
        break;
      }
      before += tiles;
      ++expert;
    }
    if (expert == experts) {
      return;
    }
    const int64_t first = offsets[expert];
    tile_product<W>((tile - before) * kTile, offsets[expert + 1] - first, int64_t{blockIdx.y} * kTile, n, k,
                    {x, first * k, k, 1}, {w, expert * n * k, w_row, w_col},
                    [&](int64_t i, int64_t j, W sum) { y.store((first + i) * n + j, sum); });
  }
}

// dw[e](i, j) += sum over the expert's rows of dy[row, i] x[row, j].
template <class W>
__global__ void __launch_bounds__(kThreads)
    weights_product(int64_t out, int64_t in, const int32_t* offsets, AnyTensor dy, AnyTensor x, AnyTensor dw) {
  const int64_t expert = blockIdx.z, first = offsets[expert];
  tile_product<W>(int64_t{blockIdx.y} * kTile, out, int64_t{blockIdx.x} * kTile, in, offsets[expert + 1] - first,
                  {dy, first * out, 1, out}, {x, first * in, 1, in}, [&](int64_t i, int64_t j, W sum) {
                    const int64_t at = (expert * out + i) * in + j;
                    dw.store(at, dw.load<W>(at) + sum);
                  });
}

void multiply_rows(const Stream& stream, const GroupedShape& s, int64_t n, int64_t k, const int32_t* offsets,
                   ConstTensor x, ConstTensor w, int64_t w_row, int64_t w_col, Tensor y) {
  const unsigned columns = blocks_of(n, kTile);
  if (columns == 0) {
    return;
  }
  const Extent grid{ceil_div(kTurnBlocks, columns), columns};
  const auto kernel = x.dtype == Dtype::fp64 ? rows_product<double> : rows_product<float>;
  launch(kernel, grid, {kThreads}, stream, s.experts, n, k, offsets, any(x), any(w), w_row, w_col, any(y));
}

}  // namespace

void grouped_forward(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor x, ConstTensor w,
                     Tensor y) {
  arguments::grouped_forward(s, offsets, x, w, y);
  multiply_rows(stream, s, s.out, s.in, offsets, x, w, s.in, 1, y);
}

void grouped_backward_input(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor dy,
                            ConstTensor w, Tensor dx) {
  arguments::grouped_backward_input(s, offsets, dy, w, dx);
  multiply_rows(stream, s, s.in, s.out, offsets, dy, w, 1, s.in, dx);
}

void grouped_backward_weight(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor dy,
                             ConstTensor x, Tensor dw) {
  arguments::grouped_backward_weight(s, offsets, dy, x, dw);
  const Extent grid{blocks_of(s.in, kTile), blocks_of(s.out, kTile), static_cast<unsigned>(s.experts)};
  const auto kernel = x.dtype == Dtype::fp64 ? weights_product<double> : weights_product<float>;
  launch(kernel, grid, {kThreads}, stream, s.out, s.in, offsets, any(dy), any(x), any(dw));
}

}  // namespace foretrain::kernels::cuda
