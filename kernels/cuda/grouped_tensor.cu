// Products per expert in bf16 on tensor cores. A block has a tile of the result, each of its warps a part of it in
// registers; both operands come through shared memory kDepth steps at a time, the next ones on their way while these
// are worked on. How many rows an expert has is known on the device alone.
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/grouped.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kTile = 128;                 // rows and columns of a block's tile of the result
constexpr int kDepth = 32;                 // of the operands' tiles in shared memory
constexpr int kDown = 2;                   // warps along the tile's rows
constexpr int kAcross = 4;                 // and along its columns
constexpr int kRows = kTile / kDown;       // of a warp
constexpr int kColumns = kTile / kAcross;  // of a warp
static_assert(kDown * kAcross == kWarps);

// The steps of a line (a row of the result, or a column of it) are neighbours in memory, or its lines are; the others
// stand `stride` apart.
struct Operand {
  const Bf16* at;
  int lines;
  int stride;
};

// Rows are 8 longer than what they hold, which puts neighbouring ones on different banks.
template <bool kStepsAreNeighbours>
struct OperandTile {
  static constexpr int kHeight = kStepsAreNeighbours ? kTile : kDepth;
  static constexpr int kWidth = kStepsAreNeighbours ? kDepth : kTile;
  alignas(16) std::uint16_t at[kHeight][kWidth + 8];

  // From (line, step) on; what lies beyond the lines or the depth is 0. There after finish_copies and a barrier.
  // kWhole: pieces of 16 bytes are inside or outside as a whole.
  template <bool kWhole>
  __device__ void load(const Operand& from, int line, int step, int depth) {
    const int first_row = kStepsAreNeighbours ? line : step, rows = kStepsAreNeighbours ? from.lines : depth;
    const int first_column = kStepsAreNeighbours ? step : line, columns = kStepsAreNeighbours ? depth : from.lines;
    constexpr int kPieces = kWidth / 8;
    static_assert(kHeight * kPieces % kThreads == 0);
    FORETRAIN_UNROLL for (int i = 0; i < kHeight * kPieces; i += static_cast<int>(kThreads)) {
      const int piece = i + static_cast<int>(threadIdx.x), row = piece / kPieces, column = piece % kPieces * 8;
      const bool inside = first_row + row < rows;
      const Bf16* const source = from.at + int64_t{first_row + row} * from.stride + first_column + column;
      std::uint16_t* const to = &at[row][column];
      if constexpr (kWhole) {
        if (inside && first_column + column < columns) {
          start_copy_16(to, source);
        } else {
          alignas(16) const std::uint16_t zeros[8] = {};
          store_piece<16>(to, zeros);
        }
      } else {
        FORETRAIN_UNROLL for (int e = 0; e < 8; ++e) {
          to[e] = inside && first_column + column + e < columns ? source[e].bits : std::uint16_t{0};
        }
      }
    }
  }

  // The 16 lines from `line` on, of 16 steps: as mma_16x8x16 takes its a. Of lines that are b's columns to[0] and to[2]
  // are the first 8, to[1] and to[3] the others.
  __device__ void fragment(int line, int step, std::uint32_t (&to)[4]) const {
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    if constexpr (kStepsAreNeighbours) {
      load_matrices(to, &at[line + lane % 16][step + lane / 16 * 8]);
    } else {
      load_matrices_transposed(to, &at[step + lane % 8 + lane / 16 * 8][line + lane / 8 % 2 * 8]);
    }
  }
};

template <bool kLeftSteps, bool kRightSteps>
struct Stage {
  OperandTile<kLeftSteps> left;
  OperandTile<kRightSteps> right;
};

// put(i, j, sum over `depth` steps of left line i times right line j) for the tile from (line_i, line_j) on.
template <bool kLeftSteps, bool kRightSteps, bool kWhole, class Put>
__device__ void tile_product(const Operand& left, int line_i, const Operand& right, int line_j, int depth, Put put) {
  __shared__ Stage<kLeftSteps, kRightSteps> stages[2];
  const auto load = [&](int step, Stage<kLeftSteps, kRightSteps>& to) {
    if (step < depth) {
      to.left.template load<kWhole>(left, line_i, step, depth);
      to.right.template load<kWhole>(right, line_j, step, depth);
    }
  };
  const int row = static_cast<int>(warp()) / kAcross * kRows, column = static_cast<int>(warp()) % kAcross * kColumns;
  float sum[kRows / 16][kColumns / 8][4] = {};
  __syncthreads();  // nobody reads what a tile before left
  load(0, stages[0]);
  int now = 0;
  for (int step = 0; step < depth; step += kDepth, now ^= 1) {
    finish_copies();
    __syncthreads();  // these are there, and nobody reads the last ones
    load(step + kDepth, stages[now ^ 1]);
    FORETRAIN_UNROLL for (int k = 0; k < kDepth; k += 16) {
      std::uint32_t a[kRows / 16][4];
      FORETRAIN_UNROLL for (int m = 0; m < kRows / 16; ++m) {
        stages[now].left.fragment(row + m * 16, k, a[m]);
      }
      FORETRAIN_UNROLL for (int n = 0; n < kColumns / 8; n += 2) {
        std::uint32_t b[4];
        stages[now].right.fragment(column + n * 8, k, b);
        FORETRAIN_UNROLL for (int m = 0; m < kRows / 16; ++m) {
          mma_16x8x16(sum[m][n], a[m], {b[0], b[2]});
          mma_16x8x16(sum[m][n + 1], a[m], {b[1], b[3]});
        }
      }
    }
  }
  FORETRAIN_UNROLL for (int m = 0; m < kRows / 16; ++m) {
    FORETRAIN_UNROLL for (int n = 0; n < kColumns / 8; ++n) {
      FORETRAIN_UNROLL for (int p = 0; p < 4; ++p) {
        const int i = line_i + row + m * 16 + p / 2 * 8 + lane_row(),
                  j = line_j + column + n * 8 + p % 2 + lane_column();
        if (i < left.lines && j < right.lines) {
          put(i, j, sum[m][n][p]);
        }
      }
    }
  }
}

// y[row, j] = sum over l of x[row, l] w[e](j, l), of n columns and k steps; w's steps are neighbours, or its columns.
template <bool kSteps, bool kWhole>
__global__ void __launch_bounds__(kThreads, 2)
    rows_product(int experts, int n, int k, const int32_t* offsets, const Bf16* x, const Bf16* w, Bf16* y) {
  each_row_tile<kTile>(offsets, experts, [&](int expert, int row) {
    const int64_t first = offsets[expert];
    const Operand left{x + first * k, offsets[expert + 1] - offsets[expert], k};
    const Operand right{w + int64_t{expert} * n * k, n, kSteps ? k : n};
    Bf16* const out = y + first * n;
    tile_product<true, kSteps, kWhole>(left, row, right, static_cast<int>(blockIdx.y) * kTile, k,
                                       [=](int i, int j, float value) { out[int64_t{i} * n + j] = to_bf16(value); });
  });
}

// dw[e](i, j) += sum over the expert's rows of dy[row, i] x[row, j].
template <bool kWhole>
__global__ void __launch_bounds__(kThreads, 2)
    weights_product(int out, int in, const int32_t* offsets, const Bf16* dy, const Bf16* x, float* dw) {
  const int64_t expert = blockIdx.z, first = offsets[expert];
  const int rows = offsets[expert + 1] - offsets[expert];
  if (rows == 0) {
    return;
  }
  float* const to = dw + expert * out * in;
  tile_product<false, false, kWhole>({dy + first * out, out, out}, static_cast<int>(blockIdx.y) * kTile,
                                     {x + first * in, in, in}, static_cast<int>(blockIdx.x) * kTile, rows,
                                     [=](int i, int j, float value) { to[int64_t{i} * in + j] += value; });
}

// Rows of all operands are whole pieces of 16 bytes.
bool are_whole(const GroupedShape& s, ConstTensor a, ConstTensor b) {
  const auto bits = reinterpret_cast<std::uintptr_t>(a.data) | reinterpret_cast<std::uintptr_t>(b.data);
  return s.out % 8 == 0 && s.in % 8 == 0 && bits % 16 == 0;
}

template <bool kSteps>
void multiply_rows(const Stream& stream, const GroupedShape& s, int64_t n, int64_t k, const int32_t* offsets,
                   ConstTensor x, ConstTensor w, Tensor y) {
  const unsigned columns = blocks_of(n, kTile);
  if (columns == 0) {
    return;
  }
  const auto kernel = are_whole(s, x, w) ? rows_product<kSteps, true> : rows_product<kSteps, false>;
  launch(kernel, {ceil_div(kTurnBlocks, columns), columns}, {kThreads}, stream,
         as_int("a product per expert", s.experts), as_int("a product per expert", n),
         as_int("a product per expert", k), offsets, as<Bf16>(x), as<Bf16>(w), as<Bf16>(y));
}

}  // namespace

void tensor_grouped_forward(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor x,
                            ConstTensor w, Tensor y) {
  multiply_rows<true>(stream, s, s.out, s.in, offsets, x, w, y);
}

void tensor_grouped_backward_input(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor dy,
                                   ConstTensor w, Tensor dx) {
  multiply_rows<false>(stream, s, s.in, s.out, offsets, dy, w, dx);
}

void tensor_grouped_backward_weight(const Stream& stream, const GroupedShape& s, const int32_t* offsets, ConstTensor dy,
                                    ConstTensor x, Tensor dw) {
  const Extent grid{blocks_of(s.in, kTile), blocks_of(s.out, kTile), static_cast<unsigned>(s.experts)};
  const auto kernel = are_whole(s, dy, x) ? weights_product<true> : weights_product<false>;
  launch(kernel, grid, {kThreads}, stream, as_int("a product per expert", s.out), as_int("a product per expert", s.in),
         offsets, as<Bf16>(dy), as<Bf16>(x), as<float>(dw));
}

}  // namespace foretrain::kernels::cuda
