// The product of matrices in the way of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication"
// (2008): a block of A in the second-level cache, one panel of B in the first, a tile of C in registers; B's packed
// panels wait in the last-level cache where several blocks of A need them.
#include "kernels/simd/gemm.h"

#include "kernels/scratch.h"
#include "kernels/simd/declare.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// Depth, rows and columns of the blocks. A panel of B, kDepth x kTileCols, fills three quarters of a first-level cache
// of 32 KiB; with AVX-512, whose tiles ask for less per operation, deeper ones that come in part from the second are
// faster. A block of A takes some 400 KiB of the second. Bits depend on kDepth alone.
template <class W>
inline constexpr int64_t kDepth = (kTileRows > 6 ? 48 : 24) * 1024 / (kTileCols<W> * static_cast<int64_t>(sizeof(W)));
constexpr int64_t kRows = 264;
constexpr int64_t kCols = 2048;
static_assert(kRows % kTileRows == 0);
// Panels of B that are packed together: rows of B are read in pieces long enough for the processor to look ahead.
constexpr int64_t kPanels = 8;
// Rows of C whose sums are kept in fp32 while k advances, when C itself is bf16.
constexpr int64_t kSumRows = 1024;

// The panels of pack_a where A is stored transposed, a row of it at a time, as far as whole vectors may be read.
// Returns how many rows of the block they are.
template <class T>
int64_t copy_panels(int64_t rows, int64_t depth, const T* a, int64_t ld, Wide<T>* packed) {
  using W = Wide<T>;
  constexpr int64_t lanes = kLanes<W>;
  constexpr int64_t read = round_up(kTileRows, lanes);
  const int64_t copied = rows < read ? 0 : (rows - read) / kTileRows * kTileRows + kTileRows;
  constexpr int64_t run = 8;  // as in pack_b
  for (int64_t l0 = 0; l0 < depth; l0 += run) {
    const int64_t l1 = depth - l0 < run ? depth : l0 + run;
    for (int64_t i = 0; i < copied; i += kTileRows) {
      for (int64_t l = l0; l < l1; ++l) {
        for (int64_t r = 0; r < kTileRows; r += lanes) {
          const Vec<W> v = load(a + l * ld + i + r);
          W* const out = packed + i * depth + l * kTileRows + r;
          if (l + 1 < depth) {
            store(out, v);  // what it writes past the row, the next one corrects
          } else {
            store_partial(out, v, kTileRows - r < lanes ? kTileRows - r : lanes);
          }
        }
      }
    }
  }
  return copied;
}

// One block of A, rows x depth, as panels [depth][kTileRows], the last one padded with zeros. May write up to one
// vector past the last panel.
template <class T>
void pack_a(int64_t rows, int64_t depth, const T* a, int64_t ld, bool transposed, Wide<T>* packed) {
  using W = Wide<T>;
  constexpr int64_t lanes = kLanes<W>;
  const int64_t copied = transposed ? copy_panels(rows, depth, a, ld, packed) : 0;
  packed += copied * depth;
  for (int64_t i = copied; i < rows; i += kTileRows, packed += kTileRows * depth) {
    const int64_t height = rows - i < kTileRows ? rows - i : kTileRows;
    int64_t l = 0;
    if (height == kTileRows && !transposed) {
      for (; l + lanes <= depth; l += lanes) {
        for (int64_t r0 = 0; r0 < kTileRows; r0 += lanes) {
          Vec<W> v[lanes];
#pragma GCC unroll 16
          for (int r = 0; r < lanes; ++r) {
            v[r] = r0 + r < kTileRows ? load(a + (i + r0 + r) * ld + l) : Vec<W>{};
          }
          transpose<W>(v);
#pragma GCC unroll 16
          for (int c = 0; c < lanes; ++c) {
            const int64_t at = (l + c) * kTileRows + r0;
            if constexpr (kTileRows <= lanes) {
              store(packed + at, v[c]);  // what it writes past the row, the next one corrects
            } else if (r0 + lanes <= kTileRows) {
              store(packed + at, v[c]);
            } else {
              store_partial(packed + at, v[c], kTileRows - r0);
            }
          }
        }
      }
    }
    for (; l < depth; ++l) {
      for (int64_t r = 0; r < kTileRows; ++r) {
        packed[l * kTileRows + r] = r < height ? widen(transposed ? a[l * ld + i + r] : a[(i + r) * ld + l]) : W{0};
      }
    }
  }
}

// Element (row, col) of a stored matrix of any type.
template <class T>
FORETRAIN_INLINE const T* at(ConstTensor t, int64_t offset) {
  return as<T>(t) + offset;
}

// A matrix that is read: where it starts and how it is stored.
struct Operand {
  ConstTensor tensor;
  int64_t offset, ld;
  bool transposed;

  int64_t index(int64_t row, int64_t col) const { return offset + (transposed ? col * ld + row : row * ld + col); }
};

// What becomes of a finished tile. Partial sums over k wait in `sums`, which is c itself where c has the wide type.
template <class C>
struct Epilogue {
  bool add_sums;  // sums holds something to add
  bool last;      // the last block of k: the result goes to c
  bool add_c;     // and is added to what is there (only where sums is not c)
};

template <class C, class Access>
FORETRAIN_INLINE void finish_vector(const Epilogue<C>& e, Vec<Wide<C>> v, const Wide<C>* bias, Wide<C>* sums, C* c,
                                    Access access) {
  if (e.add_sums) {
    v += access.load(sums);
  }
  if (!e.last) {
    access.store(sums, v);
    return;
  }
  if (e.add_c) {
    v += access.load(c);
  }
  if (bias != nullptr) {
    v += access.load(bias);
  }
  access.store(c, v);
}

// Stores rows x cols of a tile, to where bias, sums and c begin.
template <class C>
FORETRAIN_INLINE void finish_tile(const Epilogue<C>& e, const Tile<Wide<C>>& tile, int64_t rows, int64_t cols,
                                  const Wide<C>* bias, Wide<C>* sums, int64_t ld_sums, C* c, int64_t ldc) {
  using W = Wide<C>;
  constexpr int64_t lanes = kLanes<W>;
  for (int64_t i = 0; i < rows; ++i, sums += ld_sums, c += ldc) {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t at = half * lanes;
      const W* const b = bias != nullptr ? bias + at : nullptr;
      if (cols - at >= lanes) {
        finish_vector(e, tile.row[i][half], b, sums + at, c + at, WholeAccess{});
      } else if (cols > at) {
        finish_vector(e, tile.row[i][half], b, sums + at, c + at, PartialAccess{cols - at});
      }
    }
  }
}

// The blocks' working memory.
template <class W>
struct Blocks {
  W* a;
  W* b;
  W* sums;
  W* bias;
  int64_t sums_ld;
  bool keeps_panels;  // of b, for the next block of rows; else kPanels of them take the place of those before
};

template <class C>
Blocks<Wide<C>> blocks(const MatmulShape& s, bool has_bias) {
  using W = Wide<C>;
  const int64_t cols = s.n < kCols ? round_up(s.n, kTileCols<W>) : kCols;
  const int64_t rows = s.m < kRows ? round_up(s.m, kTileRows) : kRows;
  const int64_t sums = std::is_same_v<C, W> ? 0 : (s.m < kSumRows ? s.m : kSumRows) * cols;
  const int64_t bias = has_bias ? s.n : 0;
  const int64_t size_a = rows * kDepth<W> + kLanes<W>;
  const int64_t panel = kDepth<W> * kTileCols<W>;
  const int64_t panels = s.m > kRows ? cols / kTileCols<W> : kPanels;
  const int64_t total = size_a + panels * panel + sums + bias;
  W* a = static_cast<W*>(scratch(Scratch::product, static_cast<std::size_t>(total) * sizeof(W)));
  W* b = a + size_a;
  W* after_b = b + panels * panel;
  return {.a = a, .b = b, .sums = after_b, .bias = after_b + sums, .sums_ld = cols, .keeps_panels = s.m > kRows};
}

// The packed block of A, rows x depth, times one panel of B; bias, sums and c begin at the panel's first column.
template <class C>
void multiply_panel(const Epilogue<C>& e, int64_t rows, int64_t cols, int64_t depth, const Blocks<Wide<C>>& block,
                    const Wide<C>* panel, const Wide<C>* bias, Wide<C>* sums, C* c, int64_t ldc) {
  using W = Wide<C>;
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const int64_t height = rows - i < kTileRows ? rows - i : kTileRows;
    C* const out = c + i * ldc;
    for (int64_t r = 0; r < height; ++r) {  // on their way while the tile is summed
      __builtin_prefetch(out + r * ldc, 1);
      __builtin_prefetch(out + r * ldc + cols - 1, 1);
    }
    Tile<W> tile;
    tile_product<W>(depth, block.a + i * depth, 1, kTileRows, panel, kTileCols<W>, tile);
    if constexpr (std::is_same_v<C, W>) {
      finish_tile(e, tile, height, cols, bias, out, ldc, out, ldc);
    } else {
      finish_tile(e, tile, height, cols, bias, sums + i * block.sums_ld, block.sums_ld, out, ldc);
    }
  }
}

template <class C>
void multiply(const MatmulShape& s, const Operand& a, const Operand& b, const Blocks<Wide<C>>& block, bool has_bias,
              C* c, bool accumulate) {
  using W = Wide<C>;
  constexpr bool sums_in_c = std::is_same_v<C, W>;
  constexpr int64_t group_cols = kPanels * kTileCols<W>;
  const int64_t rows_step = sums_in_c ? s.m : kSumRows;
  for (int64_t m0 = 0; m0 < s.m; m0 += rows_step) {
    const int64_t m1 = s.m - m0 < rows_step ? s.m : m0 + rows_step;
    for (int64_t jc = 0; jc < s.n; jc += kCols) {
      const int64_t nc = s.n - jc < kCols ? s.n - jc : kCols;
      for (int64_t pc = 0; pc == 0 || pc < s.k; pc += kDepth<W>) {
        const int64_t kc = s.k - pc < kDepth<W> ? s.k - pc : kDepth<W>;
        const bool last = pc + kc >= s.k;
        const Epilogue<C> e = {
            .add_sums = pc > 0 || (sums_in_c && accumulate), .last = last, .add_c = !sums_in_c && accumulate};
        for (int64_t ic = m0; ic < m1; ic += kRows) {
          const int64_t mc = m1 - ic < kRows ? m1 - ic : kRows;
          with_stored<W>(a.tensor.dtype, [&](auto t) {
            pack_a(mc, kc, at<typename decltype(t)::type>(a.tensor, a.index(ic, pc)), a.ld, a.transposed, block.a);
          });
          for (int64_t jr = 0; jr < nc; jr += kTileCols<W>) {
            const int64_t nr = nc - jr < kTileCols<W> ? nc - jr : kTileCols<W>;
            const int64_t group = jr / group_cols * group_cols;
            W* const packed = block.b + (block.keeps_panels ? group * kc : 0);
            if (ic == m0 && jr == group) {
              const int64_t cols = nc - jr < group_cols ? nc - jr : group_cols;
              with_stored<W>(b.tensor.dtype, [&](auto t) {
                pack_b(kc, cols, at<typename decltype(t)::type>(b.tensor, b.index(pc, jc + jr)), b.ld, b.transposed,
                       packed);
              });
            }
            const W* const panel = packed + (jr - group) * kc;
            W* const sums = sums_in_c ? nullptr : block.sums + (ic - m0) * block.sums_ld + jr;
            const W* const bias = last && has_bias ? block.bias + jc + jr : nullptr;
            multiply_panel(e, mc, nr, kc, block, panel, bias, sums, c + ic * s.ldc + jc + jr, s.ldc);
          }
        }
      }
    }
  }
}

template <class C>
void multiply_batch(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c, bool accumulate) {
  using W = Wide<C>;
  const Blocks<W> block = blocks<C>(s, static_cast<bool>(bias));
  if (bias) {
    FORETRAIN_ISA::cast(bias, {block.bias, wide(c.dtype)}, s.n);
  }
  for (int64_t i = 0; i < s.batch; ++i) {
    const Operand left = {a, i * s.stride_a, s.lda, s.transpose_a};
    const Operand right = {b, i * s.stride_b, s.ldb, s.transpose_b};
    multiply(s, left, right, block, static_cast<bool>(bias), as<C>(c) + i * s.stride_c, accumulate);
  }
}

}  // namespace

void matmul(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c, bool accumulate) {
  MatmulShape s = shape;
  s.lda = s.lda != 0 ? s.lda : (s.transpose_a ? s.m : s.k);
  s.ldb = s.ldb != 0 ? s.ldb : (s.transpose_b ? s.k : s.n);
  s.ldc = s.ldc != 0 ? s.ldc : s.n;
  with_type(c.dtype, [&](auto t) { multiply_batch<typename decltype(t)::type>(s, a, b, bias, c, accumulate); });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
