// The pieces of a matrix product, shared by matmul and attention: a register tile, and the packing of its operands.
//
// A tile is kTileRows x kTileCols elements of C, held in registers while k advances: per step one row of a packed panel
// of B ([k][kTileCols]) times one broadcast element of A per row. A padded tile (rows or columns past the end) computes
// on zeros and is cut when stored, so an element of C is summed the same way wherever it stands: its bits depend on its
// row of A, its column of B and k, not on m or n.
#pragma once

#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

// As many accumulators as registers hold: 32 registers with AVX-512, else 16.
inline constexpr int kTileRows = FORETRAIN_VECTOR_BYTES == 64 ? 12 : FORETRAIN_VECTOR_BYTES == 32 ? 6 : 4;
template <class W>
inline constexpr int kTileCols = 2 * kLanes<W>;

constexpr int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

template <class W>
struct Tile {
  Vec<W> row[kTileRows][2];
};

// tile = sum over l < k of A[·,l] B[l,·]: element (i, l) of A at a[i * a_row + l * a_step], row l of B at b + l *
// b_step. Never inlined: the loop needs every register, and runs at the peak of the multiply-add units only when it has
// them. Unrolled, since fewer instructions per product leave more to the other thread of a core.
template <class W>
[[gnu::noinline]] void tile_product(int64_t k, const W* a, int64_t a_row, int64_t a_step, const W* b, int64_t b_step,
                                    Tile<W>& tile) {
  Tile<W> c{};
#pragma GCC unroll 4
  for (int64_t l = 0; l < k; ++l) {
    const Vec<W> b0 = load(b);
    const Vec<W> b1 = load(b + kLanes<W>);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const Vec<W> x = broadcast(a[i * a_row]);
      c.row[i][0] += x * b0;
      c.row[i][1] += x * b1;
    }
    a += a_step;
    b += b_step;
  }
  tile = c;
}

// Transposes a square of vectors held in registers, by log2(lanes) rounds of interleaving i with i + lanes/2.
template <class W, int... I>
FORETRAIN_INLINE Vec<W> interleave_low(Vec<W> a, Vec<W> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + (I % 2) * kLanes<W>)...);
}
template <class W, int... I>
FORETRAIN_INLINE Vec<W> interleave_high(Vec<W> a, Vec<W> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (kLanes<W> / 2 + I / 2 + (I % 2) * kLanes<W>)...);
}
template <class W>
FORETRAIN_INLINE void transpose(Vec<W> (&v)[kLanes<W>]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<W>>{};
#pragma GCC unroll 4
  for (int width = kLanes<W>; width > 1; width /= 2) {
    Vec<W> out[kLanes<W>];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<W> / 2; ++i) {
      out[2 * i] = interleave_low<W>(v[i], v[i + kLanes<W> / 2], lanes);
      out[2 * i + 1] = interleave_high<W>(v[i], v[i + kLanes<W> / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<W>; ++i) {
      v[i] = out[i];
    }
  }
}

// Packs a block of B, k x n, into panels [n / kTileCols][k][kTileCols], the last one padded with zeros. Element (l, j)
// of B is at b[l * ld + j], or at b[j * ld + l] when transposed.
template <class T>
void pack_b(int64_t k, int64_t n, const T* b, int64_t ld, bool transposed, Wide<T>* packed) {
  using W = Wide<T>;
  constexpr int64_t cols = kTileCols<W>;
  constexpr int64_t lanes = kLanes<W>;
  constexpr int64_t run = 8;  // rows taken together, so that both reads and writes are of some length
  for (int64_t l0 = 0; !transposed && l0 < k; l0 += run) {
    const int64_t l1 = k - l0 < run ? k : l0 + run;
    for (int64_t j = 0; j < n; j += cols) {
      for (int64_t l = l0; l < l1; ++l) {
        const T* row = b + l * ld + j;
        W* out = packed + j * k + l * cols;
        if (n - j >= cols) {
          store(out, load(row));
          store(out + lanes, load(row + lanes));
        } else {
          const int64_t left = n - j;
          store(out, left < lanes ? load_partial(row, left) : load(row));
          store(out + lanes, left > lanes ? load_partial(row + lanes, left - lanes) : Vec<W>{});
        }
      }
    }
  }
  for (int64_t j = 0; transposed && j < n; j += lanes) {
    const int64_t rows = n - j < lanes ? n - j : lanes;
    const T* row = b + j * ld;
    W* out = packed + j / cols * cols * k + j % cols;
    int64_t l = 0;
    for (; l + lanes <= k; l += lanes) {
      Vec<W> v[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) {
        v[i] = i < rows ? load(row + i * ld + l) : Vec<W>{};
      }
      transpose<W>(v);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) {
        store(out + (l + i) * cols, v[i]);
      }
    }
    for (; l < k; ++l) {
      for (int64_t i = 0; i < lanes; ++i) {
        out[l * cols + i] = i < rows ? widen(row[i * ld + l]) : W{0};
      }
    }
    if (n - j <= lanes && j % cols == 0) {  // the second half of the last panel holds no column
      for (l = 0; l < k; ++l) {
        store(out + l * cols + lanes, Vec<W>{});
      }
    }
  }
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
