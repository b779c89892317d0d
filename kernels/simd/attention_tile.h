// Where tiled attention finds queries, keys and values, and what of a tile of scores is visible.
#pragma once

#include "kernels/simd/attention_shape.h"
#include "kernels/simd/gemm.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// Queries and keys of a tile: a multiple of kTileRows and of kTileCols for every instruction set.
constexpr int64_t kBlock = 96;
static_assert(kBlock % kTileRows == 0 && kBlock % kTileCols<float> == 0 && kBlock % kTileCols<double> == 0);

FORETRAIN_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
FORETRAIN_INLINE int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// Divides one allocation into pieces of whole cache lines.
template <class W>
class Divider {
 public:
  W* take(int64_t n) {
    W* p = next_;
    next_ += padded(n);
    return p;
  }
  static int64_t padded(int64_t n) { return round_up(n, 64 / static_cast<int64_t>(sizeof(W))); }
  explicit Divider(W* start) : next_(start) {}

 private:
  W* next_;
};

// Lengths that everything is padded to.
template <class W>
struct Padded {
  int64_t keys, dim, panels;  // columns of keys, columns of a head, panels of a head

  Padded(int64_t key_count, int64_t head_dim)
      : keys(round_up(key_count, kTileCols<W>)), dim(round_up(head_dim, kTileCols<W>)), panels(dim / kTileCols<W>) {}
};

// Queries and keys of every sequence, wherever they are stored: their first row's first head, and the rows' distance.
// Sequences lie s.seq rows apart, their keys part.keys_of(s).
template <class T>
struct Rows {
  T* q;
  T* k;
  T* v;
  int64_t ld_q, ld_kv;

  Rows entry(int64_t sequence, int64_t seq, int64_t key_seq) const {
    return {q + sequence * seq * ld_q, k + sequence * key_seq * ld_kv, v + sequence * key_seq * ld_kv, ld_q, ld_kv};
  }
};

template <class T>
Rows<T> packed_rows(const AttentionShape& s, T* qkv) {
  return {qkv, qkv + key_column(s, 0), qkv + value_column(s, 0), s.qkv_cols(), s.qkv_cols()};
}

// Queries from packed qkv, keys and values from packed kv.
template <class T>
Rows<T> part_rows(const AttentionShape& s, const AttentionPart& part, T* qkv, T* kv) {
  T* const k = kv + part.first_key * s.kv_cols();
  return {qkv + part.first_query * s.qkv_cols(), k, k + s.kv_heads * s.head_dim, s.qkv_cols(), s.kv_cols()};
}

// Queries apart from keys and values.
template <class T>
Rows<T> rows_apart(const AttentionShape& s, const AttentionRows& rows, T* q, T* kv) {
  return {q, kv, kv + s.kv_heads * s.head_dim, rows.ld_q, rows.ld_kv};
}
AttentionPart part_of(const AttentionShape& s, const AttentionRows& rows) {
  AttentionPart part{0, s.seq, 0, rows.key_seq, s.causal};
  part.key_seq = rows.key_seq;
  return part;
}

// All queries of a sequence against all of its keys.
AttentionPart whole(const AttentionShape& s) {
  return {0, s.seq, 0, s.seq, s.causal, 0, s.window, s.document};
}

// Where the keys end that a query of the part sees under a causal mask.
FORETRAIN_INLINE int64_t end_of_row(const AttentionPart& part, int64_t query) {
  return query + 1 + part.diagonal + (query >= part.jump_at ? part.jump : 0);
}

// And where they begin: at the window's, or at the query's document.
FORETRAIN_INLINE int64_t begin_of_row(const AttentionPart& part, int64_t query) {
  const int64_t end = end_of_row(part, query);
  const int64_t window = part.window > 0 ? end - part.window : 0;
  return part.document > 0 ? larger(window, (end - 1) / part.document * part.document) : larger(window, 0);
}

// One tile of queries against one of keys.
struct TileRange {
  int64_t query, queries;  // first query, and how many of the kBlock exist
  int64_t key, keys;
  const AttentionPart& part;

  // Of whole groups.
  int64_t rows() const { return round_up(queries, kTileRows); }
  int64_t inside(int64_t column) const { return larger(0, smaller(keys, column)); }
  int64_t seen_by(int64_t row) const { return end_of_row(part, query + row) - key; }
  // Where the keys end that query row `row` of the tile sees, and where they begin.
  int64_t end(int64_t row) const { return part.causal ? inside(seen_by(row)) : keys; }
  int64_t begin(int64_t row) const {
    return part.window > 0 || part.document > 0 ? inside(begin_of_row(part, query + row) - key) : 0;
  }
  // The same, and 0 where it sees none.
  int64_t visible(int64_t row) const { return begin(row) < end(row) ? end(row) : 0; }
  // Where those of the group of rows from `row` on end.
  int64_t group_visible(int64_t row) const { return end(smaller(row + kTileRows, queries) - 1); }
  // No row before it sees column `col`.
  int64_t first_row(int64_t col) const {
    int64_t first = key + col - part.diagonal;
    if (first >= part.jump_at) {
      first = larger(part.jump_at, first - part.jump);
    }
    return part.causal ? smaller(queries, larger(0, first - query)) : 0;
  }
};

// The first tile of keys that queries from `query` on see, and where the keys end that the last of them sees.
int64_t first_tile(const AttentionPart& part, int64_t query) {
  return part.window > 0 || part.document > 0 ? begin_of_row(part, query) / kBlock * kBlock : 0;
}
int64_t end_of_keys(const AttentionPart& part, int64_t query, int64_t queries) {
  return part.causal ? smaller(part.keys, end_of_row(part, query + queries - 1)) : part.keys;
}

}  // namespace

}  // namespace foretrain::kernels::FORETRAIN_ISA
