// Attention by tiles with an online softmax: Dao et al., "FlashAttention" (2022) and "FlashAttention-2" (2023).
//
// Work is done per batch entry and key/value head: its keys and values are packed once, as panels of a matrix product,
// and serve every query head of the group. kBlock queries meet kBlock keys at a time; within such a tile, rows come in
// groups of kTileRows and columns in panels of kTileCols. With causal, tiles above the diagonal are not visited, and in
// a tile on the diagonal each group stops at its last row's column; with a window or documents, tiles before what the
// first row sees are not visited.
#include "kernels/scratch.h"
#include "kernels/simd/attention_tile.h"
#include "kernels/simd/declare.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// Copies rows of a head, times `factor`, to [rows][dim], with zeros in the rows up to `padded`.
template <class T>
void copy_head(const T* src, int64_t ld, int64_t rows, int64_t padded, int64_t dim, Wide<T> factor, Wide<T>* dst) {
  using W = Wide<T>;
  for (int64_t r = 0; r < rows; ++r) {
    for_vectors<W>(
        dim, [&](int64_t i, auto access) { access.store(dst + r * dim + i, access.load(src + r * ld + i) * factor); });
  }
  __builtin_memset(dst + rows * dim, 0, static_cast<std::size_t>((padded - rows) * dim) * sizeof(W));
}

// Writes rows of an accumulator [rows][ld_src] into a head, times `factor`.
template <class T>
void write_head(const Wide<T>* src, int64_t ld_src, int64_t rows, int64_t dim, Wide<T> factor, T* dst, int64_t ld) {
  for (int64_t r = 0; r < rows; ++r) {
    for_vectors<Wide<T>>(dim, [&](int64_t i, auto access) {
      access.store(dst + r * ld + i, access.load(src + r * ld_src + i) * factor);
    });
  }
}

// The same, added to what is there.
template <class T>
void add_head(const Wide<T>* src, int64_t ld_src, int64_t rows, int64_t dim, Wide<T> factor, T* dst, int64_t ld) {
  for (int64_t r = 0; r < rows; ++r) {
    for_vectors<Wide<T>>(dim, [&](int64_t i, auto access) {
      access.store(dst + r * ld + i, access.load(dst + r * ld + i) + access.load(src + r * ld_src + i) * factor);
    });
  }
}

// s[kBlock][kBlock] = a b^T where any row of the group sees the column: a is [kBlock][dim], b panels
// [·][dim][kTileCols] of the keys from range.key on.
template <class W>
void row_products(const TileRange& range, int64_t dim, const W* a, const W* b_panels, W* s) {
  const W* panel = b_panels + range.key / kTileCols<W> * dim * kTileCols<W>;
  for (int64_t col = 0; col < range.keys; col += kTileCols<W>, panel += dim * kTileCols<W>) {
    for (int64_t row = 0; row < range.queries; row += kTileRows) {
      if (col >= range.group_visible(row)) {
        continue;
      }
      Tile<W> tile;
      tile_product<W>(dim, a + row * dim, dim, 1, panel, kTileCols<W>, tile);
#pragma GCC unroll 16
      for (int i = 0; i < kTileRows; ++i) {
        store(s + (row + i) * kBlock + col, tile.row[i][0]);
        store(s + (row + i) * kBlock + col + kLanes<W>, tile.row[i][1]);
      }
    }
  }
}

// out[rows from `row` on][dim] = (out * factor[row]) + a b: one group of kTileRows rows, all columns of a head. b
// panels are [dim / kTileCols][ld_panel][kTileCols]; k steps from the panels' row `start` on.
template <class W>
FORETRAIN_INLINE void add_product(int64_t k, const W* a, int64_t a_row, int64_t a_step, const W* b_panels,
                                  int64_t ld_panel, int64_t start, const Padded<W>& padded, const W* factor, W* out) {
  for (int64_t p = 0; p < padded.panels; ++p) {
    const W* b = b_panels + (p * ld_panel + start) * kTileCols<W>;
    Tile<W> tile;
    tile_product<W>(k, a, a_row, a_step, b, kTileCols<W>, tile);
    W* at = out + p * kTileCols<W>;
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      for (int half = 0; half < 2; ++half) {
        W* c = at + i * padded.dim + half * kLanes<W>;
        const Vec<W> old = load(c);
        store(c, (factor != nullptr ? old * factor[i] : old) + tile.row[i][half]);
      }
    }
  }
}

// Sets columns [from, to) of a row to zero, or to `value`.
template <class W>
FORETRAIN_INLINE void clear(W* row, int64_t from, int64_t to, W value = 0) {
  for (int64_t i = from; i < to; ++i) {
    row[i] = value;
  }
}

// A logit by the distance between query and key: [heads][queries + keys - 1], key - query + queries - 1 of each head.
// Absent where first is nullptr.
template <class W>
struct DistanceBias {
  W* first = nullptr;
  int64_t queries = 0, keys = 0;

  // Of key 0 of the tile, seen from query row `row` of it; the next keys' follow.
  W* of_row(const TileRange& range, int64_t head, int64_t row) const {
    return first + head * (queries + keys - 1) + range.key - (range.query + row) + queries - 1;
  }
};

// Adds it to a tile of scores.
template <class W>
void add_bias(const TileRange& range, const DistanceBias<const W>& bias, int64_t head, W* s) {
  for (int64_t row = 0; bias.first != nullptr && row < range.queries; ++row) {
    const W* const logits = bias.of_row(range, head, row);
    for_vectors<W>(range.visible(row), [&](int64_t i, auto access) {
      access.store(s + row * kBlock + i, access.load(s + row * kBlock + i) + access.load(logits + i));
    });
  }
}

// Its gradient += that of a tile of scores.
template <class W>
void add_bias_gradient(const TileRange& range, const W* ds, const DistanceBias<W>& d_bias, int64_t head) {
  for (int64_t row = 0; d_bias.first != nullptr && row < range.queries; ++row) {
    W* const sums = d_bias.of_row(range, head, row);
    for_vectors<W>(range.visible(row), [&](int64_t i, auto access) {
      access.store(sums + i, access.load(sums + i) + access.load(ds + row * kBlock + i));
    });
  }
}

// ---- forward --------------------------------------------------------------------------------------------------------

// State of the online softmax of kBlock queries.
template <class W>
struct OnlineSoftmax {
  W* maximum;  // so far
  W* sum;      // of exp(score - maximum)
  W* factor;   // exp(old maximum - new maximum)
};

// Turns a tile of scores into exp(score - maximum), 0 where not visible, and moves the state on.
template <class W>
void online_softmax(const TileRange& range, W* s, const OnlineSoftmax<W>& state) {
  const W lowest = -static_cast<W>(__builtin_inf());
  const int64_t rows = range.rows();
  for (int64_t row = 0; row < rows; ++row) {
    Vec<W> maximum = broadcast(lowest);
    const int64_t n = row < range.queries ? range.visible(row) : 0;
    W* score = s + row * kBlock;
    clear(score, 0, n > 0 ? range.begin(row) : 0, lowest);
    int64_t i = 0;
    for (; i + kLanes<W> <= n; i += kLanes<W>) {
      maximum = max(load(score + i), maximum);
    }
    if (i < n) {
      maximum = max(load_partial(score + i, n - i, lowest), maximum);
    }
    const W tile_maximum = horizontal_max(maximum);
    const W old = state.maximum[row];
    state.maximum[row] = tile_maximum > old ? tile_maximum : old;
    // A row that has seen nothing yet stays as it is: -inf minus -inf would be NaN.
    state.factor[row] = state.maximum[row] == lowest ? W{0} : old - state.maximum[row];
  }
  for_vectors<W>(rows,
                 [&](int64_t i, auto access) { access.store(state.factor + i, exp(access.load(state.factor + i))); });
  for (int64_t row = 0; row < range.queries; ++row) {
    const int64_t n = range.visible(row);
    W* score = s + row * kBlock;
    const W maximum = state.maximum[row];
    Vec<W> sum{};
    for_vectors<W>(n, [&](int64_t i, auto access) {
      const Vec<W> e = access.only(exp(access.load(score + i) - maximum));
      access.store(score + i, e);
      sum += e;
    });
    clear(score, n, range.group_visible(row / kTileRows * kTileRows));
    state.sum[row] = state.sum[row] * state.factor[row] + horizontal_sum(sum);
  }
}

template <class T>
void forward(const AttentionShape& s, const AttentionPart& part, const Rows<const T>& sequences,
             const DistanceBias<const Wide<T>>& bias, T* o, Wide<T>* lse) {
  using W = Wide<T>;
  using D = Divider<W>;
  const int64_t v_dim = s.v_dim();
  const Padded<W> padded(part.keys, v_dim);  // values and outputs
  const int64_t total = D::padded(padded.keys * s.head_dim) + D::padded(part.keys * padded.dim) +
                        D::padded(kBlock * s.head_dim) + D::padded(kBlock * padded.dim) + D::padded(kBlock * kBlock) +
                        3 * D::padded(kBlock);
  D memory(static_cast<W*>(scratch(Scratch::op, static_cast<std::size_t>(total) * sizeof(W))));
  W* keys = memory.take(padded.keys * s.head_dim);
  W* values = memory.take(part.keys * padded.dim);
  W* q = memory.take(kBlock * s.head_dim);
  W* out = memory.take(kBlock * padded.dim);
  W* scores = memory.take(kBlock * kBlock);
  const OnlineSoftmax<W> state = {memory.take(kBlock), memory.take(kBlock), memory.take(kBlock)};
  const int64_t group = s.heads / s.kv_heads;

  for (int64_t bk = 0; bk < s.batch * s.kv_heads; ++bk) {
    const int64_t b = bk / s.kv_heads;
    const int64_t kv_head = bk % s.kv_heads;
    const Rows<const T> rows = sequences.entry(b, s.seq, part.keys_of(s));
    pack_b(s.head_dim, part.keys, rows.k + kv_head * s.head_dim, rows.ld_kv, true, keys);
    pack_b(part.keys, v_dim, rows.v + kv_head * v_dim, rows.ld_kv, false, values);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t query = 0; query < part.queries; query += kBlock) {
        const int64_t queries = smaller(kBlock, part.queries - query), padded_queries = round_up(queries, kTileRows);
        copy_head(rows.q + query * rows.ld_q + head * s.head_dim, rows.ld_q, queries, padded_queries, s.head_dim,
                  static_cast<W>(softmax_scale(s)), q);
        for (int64_t i = 0; i < padded_queries; ++i) {
          state.maximum[i] = -static_cast<W>(__builtin_inf());
          state.sum[i] = 0;
        }
        __builtin_memset(out, 0, static_cast<std::size_t>(padded_queries * padded.dim) * sizeof(W));
        const int64_t end = end_of_keys(part, query, queries);
        for (int64_t key = first_tile(part, query); key < end; key += kBlock) {
          const TileRange range = {query, queries, key, smaller(kBlock, part.keys - key), part};
          row_products(range, s.head_dim, q, keys, scores);
          add_bias(range, bias, head, scores);
          online_softmax(range, scores, state);
          for (int64_t row = 0; row < queries; row += kTileRows) {
            add_product(range.group_visible(row), scores + row * kBlock, kBlock, 1, values, part.keys, key, padded,
                        state.factor + row, out + row * padded.dim);
          }
        }
        for (int64_t i = 0; i < queries; ++i) {
          write_head(out + i * padded.dim, padded.dim, 1, v_dim, 1 / state.sum[i],
                     o + (b * s.seq + query + i) * s.out_cols() + head * v_dim, s.out_cols());
          lse[(b * s.heads + head) * s.seq + query + i] = state.maximum[i] + std::log(state.sum[i]);
        }
      }
    }
  }
}

// ---- backward -------------------------------------------------------------------------------------------------------

// p = exp(score - lse) and ds = p (dp - d) in place of scores and dp; 0 where not visible, up to whole groups of rows
// and of columns.
template <class W>
void probabilities(const TileRange& range, const W* lse, const W* d, W* p, W* ds) {
  const int64_t columns = round_up(range.keys, kTileRows);
  for (int64_t row = 0; row < range.rows(); ++row) {
    const int64_t n = row < range.queries ? range.visible(row) : 0;
    W* p_row = p + row * kBlock;
    W* ds_row = ds + row * kBlock;
    const W row_lse = n > 0 ? lse[row] : W{0};
    const W row_d = n > 0 ? d[row] : W{0};
    for_vectors<W>(n, [&](int64_t i, auto access) {
      const Vec<W> e = exp(access.load(p_row + i) - row_lse);
      access.store(ds_row + i, e * (access.load(ds_row + i) - row_d));
      access.store(p_row + i, e);
    });
    for (W* const x : {p_row, ds_row}) {
      clear(x, 0, n > 0 ? range.begin(row) : 0);
      clear(x, n, columns);
    }
  }
}

// d = row sums of d_o * o.
template <class T>
void row_dots(int64_t rows, int64_t dim, int64_t ld, const T* o, const T* d_o, Wide<T>* d) {
  for (int64_t r = 0; r < rows; ++r) {
    d[r] = sum_vectors<Wide<T>>(
        dim, [&](int64_t i, auto access) { return access.load(o + r * ld + i) * access.load(d_o + r * ld + i); });
  }
}

template <class T>
void backward(const AttentionShape& s, const AttentionPart& part, const Rows<const T>& sequences,
              const DistanceBias<const Wide<T>>& bias, const T* o, const Wide<T>* lse, const T* d_o,
              const Rows<T>& gradients, const DistanceBias<Wide<T>>& d_bias, bool add_to_dq) {
  using W = Wide<T>;
  using D = Divider<W>;
  const int64_t v_dim = s.v_dim();
  const Padded<W> padded(part.keys, s.head_dim), padded_v(part.keys, v_dim);
  const int64_t ld_out = s.out_cols();
  const int64_t key_rows = round_up(part.keys, kTileRows);  // dk and dv are added to by whole groups of rows
  const int64_t total = D::padded(padded.keys * s.head_dim) + D::padded(padded.keys * v_dim) +
                        D::padded(part.keys * padded.dim) + D::padded(key_rows * padded.dim) +
                        D::padded(key_rows * padded_v.dim) + D::padded(kBlock * s.head_dim) +
                        D::padded(kBlock * v_dim) + 2 * D::padded(kBlock * padded.dim) +
                        D::padded(kBlock * padded_v.dim) + 2 * D::padded(kBlock * kBlock) + D::padded(kBlock);
  D memory(static_cast<W*>(scratch(Scratch::op, static_cast<std::size_t>(total) * sizeof(W))));
  W* keys_transposed = memory.take(padded.keys * s.head_dim);
  W* values_transposed = memory.take(padded.keys * v_dim);
  W* keys = memory.take(part.keys * padded.dim);
  W* dk = memory.take(key_rows * padded.dim);
  W* dv = memory.take(key_rows * padded_v.dim);
  W* q = memory.take(kBlock * s.head_dim);
  W* d_out = memory.take(kBlock * v_dim);
  W* q_panels = memory.take(kBlock * padded.dim);
  W* d_out_panels = memory.take(kBlock * padded_v.dim);
  W* dq = memory.take(kBlock * padded.dim);
  W* p = memory.take(kBlock * kBlock);
  W* ds = memory.take(kBlock * kBlock);
  W* d = memory.take(kBlock);
  const int64_t group = s.heads / s.kv_heads;
  const W scale = static_cast<W>(softmax_scale(s));

  for (int64_t bk = 0; bk < s.batch * s.kv_heads; ++bk) {
    const int64_t b = bk / s.kv_heads;
    const int64_t kv_head = bk % s.kv_heads;
    const Rows<const T> rows = sequences.entry(b, s.seq, part.keys_of(s));
    const Rows<T> d_rows = gradients.entry(b, s.seq, part.keys_of(s));
    const T* k_rows = rows.k + kv_head * s.head_dim;
    pack_b(s.head_dim, part.keys, k_rows, rows.ld_kv, true, keys_transposed);
    pack_b(v_dim, part.keys, rows.v + kv_head * v_dim, rows.ld_kv, true, values_transposed);
    pack_b(part.keys, s.head_dim, k_rows, rows.ld_kv, false, keys);
    __builtin_memset(dk, 0, static_cast<std::size_t>(key_rows * padded.dim) * sizeof(W));
    __builtin_memset(dv, 0, static_cast<std::size_t>(key_rows * padded_v.dim) * sizeof(W));
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t query = 0; query < part.queries; query += kBlock) {
        const int64_t queries = smaller(kBlock, part.queries - query), padded_queries = round_up(queries, kTileRows);
        const T* o_rows = o + (b * s.seq + query) * ld_out + head * v_dim;
        const T* d_o_rows = d_o + (b * s.seq + query) * ld_out + head * v_dim;
        const W* row_lse = lse + (b * s.heads + head) * s.seq + query;
        // The scale goes into q, so that scores and dk need none; dq gets it at the end.
        copy_head(rows.q + query * rows.ld_q + head * s.head_dim, rows.ld_q, queries, padded_queries, s.head_dim, scale,
                  q);
        copy_head(d_o_rows, ld_out, queries, padded_queries, v_dim, W{1}, d_out);
        pack_b(padded_queries, s.head_dim, q, s.head_dim, false, q_panels);
        pack_b(padded_queries, v_dim, d_out, v_dim, false, d_out_panels);
        row_dots(queries, v_dim, ld_out, o_rows, d_o_rows, d);
        __builtin_memset(dq, 0, static_cast<std::size_t>(padded_queries * padded.dim) * sizeof(W));
        const int64_t end = end_of_keys(part, query, queries);
        for (int64_t key = first_tile(part, query); key < end; key += kBlock) {
          const TileRange range = {query, queries, key, smaller(kBlock, part.keys - key), part};
          row_products(range, s.head_dim, q, keys_transposed, p);
          add_bias(range, bias, head, p);
          row_products(range, v_dim, d_out, values_transposed, ds);
          probabilities(range, row_lse, d, p, ds);
          add_bias_gradient(range, ds, d_bias, head);
          for (int64_t row = 0; row < queries; row += kTileRows) {
            add_product<W>(range.group_visible(row), ds + row * kBlock, kBlock, 1, keys, part.keys, key, padded,
                           nullptr, dq + row * padded.dim);
          }
          for (int64_t col = 0; col < range.keys; col += kTileRows) {
            const int64_t first = range.first_row(col);
            add_product<W>(queries - first, p + first * kBlock + col, 1, kBlock, d_out_panels, padded_queries, first,
                           padded_v, nullptr, dv + (key + col) * padded_v.dim);
            add_product<W>(queries - first, ds + first * kBlock + col, 1, kBlock, q_panels, padded_queries, first,
                           padded, nullptr, dk + (key + col) * padded.dim);
          }
        }
        T* const dq_rows = d_rows.q + query * rows.ld_q + head * s.head_dim;
        if (add_to_dq) {
          add_head(dq, padded.dim, queries, s.head_dim, scale, dq_rows, rows.ld_q);
        } else {
          write_head(dq, padded.dim, queries, s.head_dim, scale, dq_rows, rows.ld_q);
        }
      }
    }
    write_head(dk, padded.dim, part.keys, s.head_dim, W{1}, d_rows.k + kv_head * s.head_dim, rows.ld_kv);
    write_head(dv, padded_v.dim, part.keys, v_dim, W{1}, d_rows.v + kv_head * v_dim, rows.ld_kv);
  }
}

}  // namespace

void attention_forward(const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    forward<T>(s, whole(s), packed_rows(s, as<T>(qkv)), {}, as<T>(o), as<Wide<T>>(lse));
  });
}

void attention_backward(const AttentionShape& s, ConstTensor qkv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                        Tensor dqkv) {
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    backward<T>(s, whole(s), packed_rows(s, as<T>(qkv)), {}, as<T>(o), as<Wide<T>>(lse), as<T>(d_o),
                packed_rows(s, as<T>(dqkv)), {}, false);
  });
}

void attention_part_forward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                            Tensor o, Tensor lse) {
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    forward<T>(s, part, part_rows(s, part, as<T>(qkv), as<T>(kv)), {}, as<T>(o) + part.first_query * s.out_cols(),
               as<Wide<T>>(lse) + part.first_query);
  });
}

void attention_part_backward(const AttentionShape& s, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                             ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv, Tensor dkv, bool add_to_dq) {
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const int64_t out = part.first_query * s.out_cols();
    backward<T>(s, part, part_rows(s, part, as<T>(qkv), as<T>(kv)), {}, as<T>(o) + out,
                as<Wide<T>>(lse) + part.first_query, as<T>(d_o) + out, part_rows(s, part, as<T>(dqkv), as<T>(dkv)), {},
                add_to_dq);
  });
}

void attention_rows_forward(const AttentionShape& s, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                            ConstTensor bias, Tensor o, Tensor lse) {
  with_type(q.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    forward<T>(s, part_of(s, rows), rows_apart(s, rows, as<T>(q), as<T>(kv)), {as<Wide<T>>(bias), s.seq, rows.key_seq},
               as<T>(o), as<Wide<T>>(lse));
  });
}

void attention_rows_backward(const AttentionShape& s, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                             ConstTensor bias, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dq, Tensor dkv,
                             Tensor d_bias) {
  with_type(q.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    backward<T>(s, part_of(s, rows), rows_apart(s, rows, as<T>(q), as<T>(kv)), {as<Wide<T>>(bias), s.seq, rows.key_seq},
                as<T>(o), as<Wide<T>>(lse), as<T>(d_o), rows_apart(s, rows, as<T>(dq), as<T>(dkv)),
                {as<Wide<T>>(d_bias), s.seq, rows.key_seq}, false);
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
