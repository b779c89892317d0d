// Attention by tiles with an online softmax (Dao et al., "FlashAttention-2", 2023), in the element's wide type: for
// fp64, fp32 and what the tensor cores' version does not cover.
//
// A block has one tile of rows and walks over the others in tiles. In the forward and for dq rows are queries and the
// others keys; for dk and dv rows are keys and the others queries, of all query heads of the group. Of a tile of scores
// every thread has 4 x 4, of the result 4 x 8; blocks beyond the first of a row tile have further columns.
#include <cmath>

#include "kernels/cuda/attention_view.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kTile = kTileRows;  // rows, and others
constexpr int kSide = 16;         // threads along each
constexpr int kEach = kTile / kSide;
constexpr int kDepth = 8;      // columns of a head that are in shared memory at a time
constexpr int kColumns = 128;  // of the result
constexpr unsigned kThreads = kSide * kSide;

template <class W>
struct TileMemory {
  W rows[kTile][kDepth + 1];
  W others[kTile][kDepth + 1];
  W weights[kTile][kTile + 1];
};

__device__ int row_of(int i) {
  return static_cast<int>(threadIdx.x) / kSide * kEach + i;
}
__device__ int column_of(int j) {
  return static_cast<int>(threadIdx.x) % kSide + j * kSide;
}

template <class T, class W>
__device__ void load_depth(const HeadRows<const T>& from, int first, int past, int column, W (&to)[kTile][kDepth + 1]) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
    const int row = i / kDepth, c = i % kDepth;
    to[row][c] = first + row < past && column + c < from.cols ? widen(from.row(first + row)[column + c]) : W{0};
  }
}

// s = rows · others^T.
template <class T, class W>
__device__ void scores(const HeadRows<const T>& rows, int row, int past_row, const HeadRows<const T>& others, int other,
                       int past_other, TileMemory<W>& memory, W (&s)[kEach][kEach]) {
  FORETRAIN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    FORETRAIN_UNROLL
    for (int j = 0; j < kEach; ++j) {
      s[i][j] = 0;
    }
  }
  for (int column = 0; column < rows.cols; column += kDepth) {
    load_depth(rows, row, past_row, column, memory.rows);
    load_depth(others, other, past_other, column, memory.others);
    __syncthreads();
    FORETRAIN_UNROLL
    for (int d = 0; d < kDepth; ++d) {
      FORETRAIN_UNROLL
      for (int i = 0; i < kEach; ++i) {
        FORETRAIN_UNROLL
        for (int j = 0; j < kEach; ++j) {
          s[i][j] += memory.rows[row_of(i)][d] * memory.others[column_of(j)][d];
        }
      }
    }
    __syncthreads();
  }
}

template <class W>
using Result = W[kEach][kColumns / kSide];

// result += weights · others, of the result's columns from `column` on.
template <class T, class W>
__device__ void add_weighted(const HeadRows<const T>& others, int other, int past_other, int column,
                             const TileMemory<W>& memory, Result<W>& result) {
  for (int o = 0; o < kTile && other + o < past_other; ++o) {
    FORETRAIN_UNROLL
    for (int j = 0; j < kColumns / kSide; ++j) {
      const int c = column + column_of(j);
      const W x = c < others.cols ? widen(others.row(other + o)[c]) : W{0};
      FORETRAIN_UNROLL
      for (int i = 0; i < kEach; ++i) {
        result[i][j] += memory.weights[row_of(i)][o] * x;
      }
    }
  }
}

template <class T, class W>
__device__ void write(const HeadRows<T>& to, int row, Range rows, int column, W factor, bool add,
                      const Result<W>& result) {
  FORETRAIN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    FORETRAIN_UNROLL
    for (int j = 0; j < kColumns / kSide; ++j) {
      const int r = row + row_of(i), c = column + column_of(j);
      if (r >= rows.first && r < rows.past && c < to.cols) {
        T& element = to.row(r)[c];
        element = narrow<T>(result[i][j] * factor + (add ? widen(element) : W{0}));
      }
    }
  }
}

template <class A>
__device__ auto bias_of(const A& a, int head, int query, int key) {
  return a.bias != nullptr ? a.bias[a.heads.distance(head, query, key)] : 0;
}

// Over the threads that share rows.
template <class W, class F>
__device__ W over_row(W x, F f) {
  for (unsigned offset = kSide / 2; offset > 0; offset /= 2) {
    x = f(x, shuffle_xor(x, offset));
  }
  return x;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(AttentionForward<T> a, int tiles) {
  using W = Wide<T>;
  __shared__ TileMemory<W> memory;
  const int pair = static_cast<int>(blockIdx.x) / tiles, row = static_cast<int>(blockIdx.x) % tiles * kTile;
  const int sequence = pair / a.heads.heads, head = pair % a.heads.heads, kv_head = head / a.heads.group();
  const auto q = a.heads.query(a.q, sequence, head);
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  const int column = static_cast<int>(blockIdx.y) * kColumns;
  const W lowest = -static_cast<W>(INFINITY), scale = static_cast<W>(a.heads.scale);
  W maximum[kEach], sum[kEach];
  Result<W> result;
  FORETRAIN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    maximum[i] = lowest;
    sum[i] = 0;
    FORETRAIN_UNROLL
    for (int j = 0; j < kColumns / kSide; ++j) {
      result[i][j] = 0;
    }
  }
  const Range keys = a.sight.keys_of(row, row + kTile);
  for (int key = keys.first; key < keys.past; key += kTile) {
    W s[kEach][kEach];
    scores(q, row, a.heads.seq, k, key, keys.past, memory, s);
    FORETRAIN_UNROLL
    for (int i = 0; i < kEach; ++i) {
      W most = maximum[i];
      FORETRAIN_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const int query = row + row_of(i), other = key + column_of(j);
        s[i][j] = a.sight.sees(query, other) ? s[i][j] * scale + bias_of(a, head, query, other) : lowest;
        most = s[i][j] > most ? s[i][j] : most;
      }
      most = over_row(most, [](W x, W y) { return x > y ? x : y; });
      // A row that has seen nothing yet stays as it is: -inf minus -inf would be NaN.
      const W factor = most == lowest ? W{1} : std::exp(maximum[i] - most);
      W total = 0;
      FORETRAIN_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const W p = s[i][j] == lowest ? W{0} : std::exp(s[i][j] - most);
        memory.weights[row_of(i)][column_of(j)] = p;
        total += p;
      }
      maximum[i] = most;
      sum[i] = sum[i] * factor + over_row(total, [](W x, W y) { return x + y; });
      FORETRAIN_UNROLL
      for (int j = 0; j < kColumns / kSide; ++j) {
        result[i][j] *= factor;
      }
    }
    __syncthreads();
    add_weighted(v, key, keys.past, column, memory, result);
    __syncthreads();
  }
  FORETRAIN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int query = row + row_of(i);
    if (query < a.heads.seq && column == 0 && column_of(0) == 0) {
      a.lse[a.heads.statistics(sequence, head) + query] = sum[i] == 0 ? lowest : maximum[i] + std::log(sum[i]);
    }
    FORETRAIN_UNROLL
    for (int j = 0; j < kColumns / kSide; ++j) {
      result[i][j] /= sum[i];
    }
  }
  write(a.heads.out(a.o, sequence, head), row, {a.sight.first_query, a.sight.past_query}, column, W{1}, false, result);
}

template <class T, Gradient kOf>
__global__ void __launch_bounds__(kThreads, 1) backward_kernel(AttentionBackward<T> a, int tiles) {
  using W = Wide<T>;
  __shared__ TileMemory<W> memory;
  constexpr bool rows_are_queries = kOf == Gradient::q;
  const int of_launch = static_cast<int>(blockIdx.x) / tiles, row = static_cast<int>(blockIdx.x) % tiles * kTile;
  const int group = a.heads.group(), heads = rows_are_queries ? 1 : group;
  const int pair = a.first_pair + (rows_are_queries ? of_launch / group : of_launch);
  const int sequence = pair / a.heads.kv_heads, kv_head = pair % a.heads.kv_heads;
  const int first_head = kv_head * group + (rows_are_queries ? of_launch % group : 0);
  const int column = static_cast<int>(blockIdx.y) * kColumns;
  const int past_row = rows_are_queries ? a.heads.seq : a.heads.key_seq;
  const W scale = static_cast<W>(a.heads.scale);
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  Result<W> result;
  FORETRAIN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    FORETRAIN_UNROLL
    for (int j = 0; j < kColumns / kSide; ++j) {
      result[i][j] = 0;
    }
  }
  W* const sums = rows_are_queries && column == 0 ? sums_of_block(a) : nullptr;
  const Range others = rows_are_queries ? a.sight.keys_of(row, row + kTile) : a.sight.queries_of(row, row + kTile);
  for (int head = first_head; head < first_head + heads; ++head) {
    const auto q = a.heads.query(a.q, sequence, head);
    const auto d_o = a.heads.out(a.d_o, sequence, head);
    const W* const lse = a.lse + a.heads.statistics(sequence, head);
    const W* const dots = a.dots + a.heads.statistics(sequence, head) - a.heads.statistics(0, a.first_pair * group);
    for (int other = others.first; other < others.past; other += kTile) {
      W s[kEach][kEach], dp[kEach][kEach];
      if constexpr (rows_are_queries) {
        scores(q, row, past_row, k, other, others.past, memory, s);
        scores(d_o, row, past_row, v, other, others.past, memory, dp);
      } else {
        scores(k, row, past_row, q, other, others.past, memory, s);
        if constexpr (kOf == Gradient::k) {
          scores(v, row, past_row, d_o, other, others.past, memory, dp);
        }
      }
      FORETRAIN_UNROLL
      for (int i = 0; i < kEach; ++i) {
        FORETRAIN_UNROLL
        for (int j = 0; j < kEach; ++j) {
          const int r = row + row_of(i), c = other + column_of(j);
          const int query = rows_are_queries ? r : c, key = rows_are_queries ? c : r;
          W weight = 0;
          if (a.sight.sees(query, key)) {
            weight = std::exp(s[i][j] * scale + bias_of(a, head, query, key) - lse[query]);
            if constexpr (kOf != Gradient::v) {
              weight *= dp[i][j] - dots[query];
            }
          }
          memory.weights[row_of(i)][column_of(j)] = weight;
        }
      }
      __syncthreads();
      if (sums != nullptr) {
        add_diagonals(a.heads, memory.weights, other, sums);
      }
      add_weighted(rows_are_queries ? k : kOf == Gradient::k ? q : d_o, other, others.past, column, memory, result);
      __syncthreads();
    }
  }
  const HeadRows<T> to = kOf == Gradient::q   ? a.heads.query(a.dq, sequence, first_head)
                         : kOf == Gradient::k ? a.heads.key(a.dk, sequence, kv_head)
                                              : a.heads.value(a.dv, sequence, kv_head);
  write(to, row, {0, past_row}, column, kOf == Gradient::v ? W{1} : scale, rows_are_queries && a.add_to_dq, result);
}

template <class T, Gradient kOf>
void launch_backward(const Stream& stream, const AttentionBackward<T>& a) {
  const int tiles = ceil_div(kOf == Gradient::q ? a.heads.seq : a.heads.key_seq, kTile);
  const int pairs = a.pairs * (kOf == Gradient::q ? a.heads.group() : 1);
  const int cols = kOf == Gradient::v ? a.heads.v_dim : a.heads.head_dim;
  launch(&backward_kernel<T, kOf>,
         {static_cast<unsigned>(pairs * tiles), static_cast<unsigned>(ceil_div(cols, kColumns))}, {kThreads}, stream, a,
         tiles);
}

}  // namespace

template <class T>
void plain_forward(const Stream& stream, const AttentionForward<T>& a) {
  const int tiles = ceil_div(a.heads.seq, kTile);
  launch(&forward_kernel<T>,
         {static_cast<unsigned>(a.heads.batch * a.heads.heads * tiles),
          static_cast<unsigned>(ceil_div(a.heads.v_dim, kColumns))},
         {kThreads}, stream, a, tiles);
}

template <class T>
void plain_backward(const Stream& stream, const AttentionBackward<T>& a) {
  launch_backward<T, Gradient::q>(stream, a);
  launch_backward<T, Gradient::k>(stream, a);
  launch_backward<T, Gradient::v>(stream, a);
}

#define INSTANTIATE(T)                                                       \
  template void plain_forward<T>(const Stream&, const AttentionForward<T>&); \
  template void plain_backward<T>(const Stream&, const AttentionBackward<T>&)
INSTANTIATE(double);
INSTANTIATE(float);
INSTANTIATE(Bf16);
#undef INSTANTIATE

}  // namespace foretrain::kernels::cuda
