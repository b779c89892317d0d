// Sums over rows, column by column: of slices of the rows by one kernel, into the workspace, and of the slices, in
// order, by another one.
#pragma once

#include "kernels/cuda/block.h"

namespace foretrain::kernels::cuda {

constexpr unsigned kColumnRows = kThreads / kWarp;  // rows that a block takes at a time, of kWarp columns
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

template <class W, int N>
__global__ void __launch_bounds__(kThreads)
    finish_columns(int64_t slices, int64_t cols, const W* partial, Columns<W, N> out, bool accumulate) {
  const int64_t c = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (c >= cols) {
    return;
  }
  for (int i = 0; i < N; ++i) {
    if (out.of[i] != nullptr) {
      W sum = 0;
      for (int64_t s = 0; s < slices; ++s) {
        sum += partial[(s * N + i) * cols + c];
      }
      out.of[i][c] = sum + (accumulate ? out.of[i][c] : W{0});
    }
  }
}

// term(row, col) gives Sums<W, N>.
template <class W, int N, class Term>
__global__ void __launch_bounds__(kThreads)
    slice_columns(int64_t rows, int64_t cols, int64_t slice_rows, Term term, W* partial) {
  __shared__ W of_rows[N][kColumnRows][kWarp + 1];
  const int64_t c = int64_t{blockIdx.x} * kWarp + lane();
  const int64_t first = blockIdx.y * slice_rows;
  const int64_t past = first + slice_rows < rows ? first + slice_rows : rows;
  Sums<W, N> sums;
  if (c < cols) {
    for (int64_t r = first + warp(); r < past; r += kColumnRows) {
      const Sums<W, N> x = term(r, c);
      FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
        sums.of[i] += x.of[i];
      }
    }
  }
  FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
    of_rows[i][warp()][lane()] = sums.of[i];
  }
  __syncthreads();
  if (warp() == 0 && c < cols) {
    FORETRAIN_UNROLL for (int i = 0; i < N; ++i) {
      W sum = of_rows[i][0][lane()];
      for (unsigned r = 1; r < kColumnRows; ++r) {
        sum += of_rows[i][r][lane()];
      }
      partial[(blockIdx.y * N + i) * cols + c] = sum;
    }
  }
}

// out (+)= sums over the rows; takes the first half of the workspace.
template <class W, int N, class Term>
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
    launch(slice_columns<W, N, Term>, {blocks_of(cols, kWarp), static_cast<unsigned>(slices)}, {kThreads}, stream, rows,
           cols, ceil_div(rows, slices), term, partial);
  }
  launch(finish_columns<W, N>, {blocks_of(cols, kThreads)}, {kThreads}, stream, slices, cols, partial, out, accumulate);
}

}  // namespace foretrain::kernels::cuda
