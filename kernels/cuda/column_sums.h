// Sums over rows, column by column: of slices of the rows by one kernel, into the workspace, and of the slices, in
// order, by another one.
#pragma once

#include "kernels/cuda/pack.h"

namespace foretrain::kernels::cuda {

constexpr unsigned kColumnRows = kThreads / kWarp;  // rows that a block takes at a time, of a pack for each lane
constexpr int64_t kSliceRows = 64;                  // the fewest of a slice that are worth a block
constexpr int64_t kMostSlices = 128;

// N sums for each column: two where a gradient has two parameters.
template <class W, int N>
struct Sums {
  W of[N] = {};
};

// Where the sums go, or are added to. Absent ones are null.
template <class W, int N>
struct Columns {
  W* of[N];
};

// put(column, sum of `own` over the block's warps), for each of the block's columns that is among `cols`.
template <int kPack, class W, int N, class Put>
__device__ inline void over_warps(const Values<Sums<W, N>, kPack>& own, int64_t cols, Put put) {
  constexpr unsigned kColumns = kWarp * kPack;
  __shared__ W of_rows[kColumnRows][N][kColumns];
  FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
    FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
      of_rows[warp()][i][lane() * kPack + static_cast<unsigned>(k)] = own.of[k].of[i];
    }
  }
  __syncthreads();
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  if (threadIdx.x < kColumns && column < cols) {
    Sums<W, N> sums;
    for (unsigned r = 0; r < kColumnRows; ++r) {
      FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
        sums.of[i] += of_rows[r][i][threadIdx.x];
      }
    }
    put(column, sums);
  }
}

template <class W, int N>
__global__ void __launch_bounds__(kThreads)
    finish_columns(int64_t slices, int64_t cols, const W* partial, Columns<W, N> out, bool accumulate) {
  const int64_t c = int64_t{blockIdx.x} * kWarp + lane();
  Values<Sums<W, N>, 1> sums;
  if (c < cols) {
    for (int64_t s = warp(); s < slices; s += kColumnRows) {
      FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
        sums.of[0].of[i] += partial[(s * N + i) * cols + c];
      }
    }
  }
  over_warps(sums, cols, [=](int64_t column, const Sums<W, N>& all) {
    FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
      if (out.of[i] != nullptr) {
        out.of[i][column] = all.of[i] + (accumulate ? out.of[i][column] : W{0});
      }
    }
  });
}

// term(row, col) gives the Sums of each of a pack's columns.
template <int kPack, class W, int N, class Term>
__global__ void __launch_bounds__(kThreads)
    slice_columns(int64_t rows, int64_t cols, int64_t slice_rows, Term term, W* partial) {
  const int64_t c = (int64_t{blockIdx.x} * kWarp + lane()) * kPack;
  const int64_t first = blockIdx.y * slice_rows;
  const int64_t past = first + slice_rows < rows ? first + slice_rows : rows;
  Values<Sums<W, N>, kPack> sums;
  if (c < cols) {
    for (int64_t r = first + warp(); r < past; r += kColumnRows) {
      const Values<Sums<W, N>, kPack> x = term(r, c);
      FORETRAIN_UNROLL for (int k = 0; k < kPack; ++k) {
        FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
          sums.of[k].of[i] += x.of[k].of[i];
        }
      }
    }
  }
  over_warps(sums, cols, [=](int64_t column, const Sums<W, N>& all) {
    FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
      partial[(blockIdx.y * N + i) * cols + column] = all.of[i];
    }
  });
}

// out (+)= sums over the rows; takes the first half of the workspace.
template <int kPack, class W, int N, class Term>
void sum_columns(const Stream& stream, int64_t rows, int64_t cols, Term term, Columns<W, N> out, bool accumulate) {
  if (cols == 0) {
    return;
  }
  const auto room = static_cast<int64_t>(kWorkspaceBytes / 2 / sizeof(W)) / (N * cols);
  const int64_t most = room < 1 ? 1 : room < kMostSlices ? room : kMostSlices;
  const int64_t wanted = ceil_div(rows, kSliceRows);
  const int64_t slices = wanted < most ? wanted : most;
  auto* const partial = static_cast<W*>(stream.workspace);
  if (slices > 0) {
    launch(slice_columns<kPack, W, N, Term>, {blocks_of(cols, kWarp * kPack), static_cast<unsigned>(slices)},
           {kThreads}, stream, rows, cols, ceil_div(rows, slices), term, partial);
  }
  launch(finish_columns<W, N>, {blocks_of(cols, kWarp)}, {kThreads}, stream, slices, cols, partial, out, accumulate);
}

}  // namespace foretrain::kernels::cuda
