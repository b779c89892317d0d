// What attention on tensor cores is made of (attention_tensor*.cu): keys of up to kKey columns and values of up to
// kValue, narrower ones filled up with zeros.
//
// A block is four warps with 16 rows each, whose results stay in registers, as do the rows themselves where there is
// room for both; the others come through shared memory, a tile at a time, the next one on its way while one is worked
// on. Rows and others are as in attention_plain.cu. A tile of scores leaves one product in the layout in which the next
// one takes its left matrix, so that weights never leave their registers.
#pragma once

#include <cmath>
#include <initializer_list>

#include "kernels/cuda/attention_view.h"

namespace foretrain::kernels::cuda {

constexpr int kTileWarps = 4;
constexpr int kRowsOfWarp = 16;
static_assert(kTileRows == kTileWarps * kRowsOfWarp);
constexpr unsigned kTileThreads = kTileWarps * kWarp;
constexpr float kLog2e = 1.4426950408889634F;

// The first of a warp's 16 rows.
__device__ inline int warp_row(int block_row) {
  return block_row + static_cast<int>(threadIdx.x / kWarp) * kRowsOfWarp;
}

// kOthers rows of a head, two elements to a word; a row is 4 words longer, which puts neighbouring rows on different
// banks.
template <int kColumns, int kOthers>
struct HeadTile {
  alignas(16) std::uint32_t at[kOthers][kColumns / 2 + 4];

  // There after finish_copies and a barrier. `aligned`: rows are whole pieces of 16 bytes.
  __device__ void load(const HeadRows<const Bf16>& from, int first, int past, bool aligned) {
    constexpr int kPieces = kColumns / 8;
    for (int i = static_cast<int>(threadIdx.x); i < kOthers * kPieces; i += kTileThreads) {
      const int row = i / kPieces, column = i % kPieces * 8;
      const bool inside = first + row < past;
      std::uint32_t* const to = &at[row][column / 2];
      if (aligned && inside && column < from.cols) {
        start_copy_16(to, from.row(first + row) + column);
        continue;
      }
      const auto element = [&](int c) {
        return inside && c < from.cols ? from.row(first + row)[c].bits : std::uint16_t{0};
      };
      for (int c = 0; c < 8; c += 2) {
        to[c / 2] = static_cast<std::uint32_t>(element(column + c + 1)) << 16 | element(column + c);
      }
    }
  }
  __device__ const void* piece(int row, int column) const { return &at[row][column / 2]; }
};

// What stands against the rows at a time: keys and values, or queries and d_o.
template <int kKey, int kValue, int kOthers>
struct HeadTiles {
  HeadTile<kKey, kOthers> first;
  HeadTile<kValue, kOthers> second;
};

// The left matrix of a product, a warp's 16 rows of a head, 16 columns at a time.
struct Fragment {
  std::uint32_t of[4];
};

template <int kColumns>
class RowsInRegisters {
 public:
  struct Shared {};
  __device__ explicit RowsInRegisters(Shared&) {}

  __device__ void load(const HeadRows<const Bf16>& from, int block_row, int past, bool) {
    const int first = warp_row(block_row);
    const auto element = [&](int row, int column) {
      return row < past && column < from.cols ? from.row(row)[column].bits : std::uint16_t{0};
    };
    FORETRAIN_UNROLL
    for (int k = 0; k < kColumns / 16; ++k) {
      FORETRAIN_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = first + lane_row() + i % 2 * 8, column = k * 16 + lane_column() + i / 2 * 8;
        at_[k].of[i] = static_cast<std::uint32_t>(element(row, column + 1)) << 16 | element(row, column);
      }
    }
  }
  __device__ Fragment fragment(int k) const { return at_[k]; }

 private:
  Fragment at_[kColumns / 16];
};

// There after finish_copies and a barrier.
template <int kColumns>
class RowsInShared {
 public:
  using Shared = HeadTile<kColumns, kTileRows>;
  __device__ explicit RowsInShared(Shared& tile) : tile_(tile) {}

  __device__ void load(const HeadRows<const Bf16>& from, int block_row, int past, bool aligned) {
    tile_.load(from, block_row, past, aligned);
  }
  __device__ Fragment fragment(int k) const {
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    Fragment fragment;
    load_matrices(fragment.of, tile_.piece(warp_row(0) + lane % 16, k * 16 + lane / 16 * 8));
    return fragment;
  }

 private:
  Shared& tile_;
};

// Of heads whose keys have kKey columns: wider ones leave no registers for rows.
template <int kColumns, int kKey>
using Rows = std::conditional_t<(kKey > 128), RowsInShared<kColumns>, RowsInRegisters<kColumns>>;

// s = rows · others^T, of a warp's rows.
template <class R, int kColumns, int kOthers>
__device__ void scores(const R& rows, const HeadTile<kColumns, kOthers>& others, float (&s)[kOthers / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  FORETRAIN_UNROLL
  for (int n = 0; n < kOthers / 8; ++n) {
    s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
  }
  FORETRAIN_UNROLL
  for (int k = 0; k < kColumns / 16; k += 2) {
    const Fragment left = rows.fragment(k), next = rows.fragment(k + 1);
    FORETRAIN_UNROLL
    for (int n = 0; n < kOthers / 8; ++n) {
      std::uint32_t right[4];
      load_matrices(right, others.piece(n * 8 + lane % 8, k * 16 + lane / 8 * 8));
      mma_16x8x16(s[n], left.of, {right[0], right[1]});
      mma_16x8x16(s[n], next.of, {right[2], right[3]});
    }
  }
}

// result += weights · others.
template <int kColumns, int kOthers>
__device__ void add_weighted(const float (&weights)[kOthers / 8][4], const HeadTile<kColumns, kOthers>& others,
                             float (&result)[kColumns / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  FORETRAIN_UNROLL
  for (int k = 0; k < kOthers / 16; ++k) {
    const auto& low = weights[2 * k];
    const auto& high = weights[2 * k + 1];
    const std::uint32_t left[4] = {bf16_pair(low[0], low[1]), bf16_pair(low[2], low[3]), bf16_pair(high[0], high[1]),
                                   bf16_pair(high[2], high[3])};
    FORETRAIN_UNROLL
    for (int n = 0; n < kColumns / 8; n += 2) {
      std::uint32_t right[4];
      load_matrices_transposed(right, others.piece(k * 16 + lane % 16, n * 8 + lane / 16 * 8));
      mma_16x8x16(result[n], left, {right[0], right[1]});
      mma_16x8x16(result[n + 1], left, {right[2], right[3]});
    }
  }
}

template <int kColumns>
__device__ void clear(float (&result)[kColumns / 8][4]) {
  FORETRAIN_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    result[n][0] = result[n][1] = result[n][2] = result[n][3] = 0;
  }
}

// Rows of `rows` only, times a factor for each of a lane's two.
template <int kColumns>
__device__ void write(const HeadRows<Bf16>& to, int first, Range rows, const float (&factor)[2], bool add,
                      const float (&result)[kColumns / 8][4]) {
  FORETRAIN_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    FORETRAIN_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first + lane_row() + i / 2 * 8, column = n * 8 + lane_column() + i % 2;
      if (row >= rows.first && row < rows.past && column < to.cols) {
        Bf16& element = to.row(row)[column];
        element = to_bf16(result[n][i] * factor[i / 2] + (add ? widen(element) : 0.0F));
      }
    }
  }
}

inline bool is_aligned(const Heads& h, std::initializer_list<const void*> tensors) {
  bool aligned = h.ld_q % 8 == 0 && h.ld_kv % 8 == 0 && h.ld_o % 8 == 0 && h.head_dim % 8 == 0 && h.v_dim % 8 == 0;
  for (const void* tensor : tensors) {
    aligned = aligned && reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0;
  }
  return aligned;
}

// The tiles that hold a launch's heads: of key columns and value columns.
enum class Width : std::uint8_t { of_64, of_128, of_192_128, of_256 };

inline Width width_of(const Heads& h) {
  const int most = h.head_dim > h.v_dim ? h.head_dim : h.v_dim;
  return most <= 64                            ? Width::of_64
         : most <= 128                         ? Width::of_128
         : h.head_dim <= 192 && h.v_dim <= 128 ? Width::of_192_128
                                               : Width::of_256;
}

inline bool is_narrow(const Heads& heads) {
  return width_of(heads) == Width::of_64;
}

}  // namespace foretrain::kernels::cuda
