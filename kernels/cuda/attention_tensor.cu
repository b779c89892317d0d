// Attention in bf16 on tensor cores, by tiles with an online softmax (Dao et al., "FlashAttention-2", 2023), for heads
// of up to kColumns columns; narrower ones are filled up with zeros.
//
// A block is four warps with 16 rows each, which stay in registers, as the result does; the others come through shared
// memory, a tile at a time. Rows and others are as in attention_plain.cu. A tile of scores leaves one product in the
// layout in which the next one takes its left matrix, so that weights never leave their registers.
#include <cmath>

#include "kernels/cuda/attention_view.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kRowsOfWarp = 16;
constexpr int kRows = kWarps * kRowsOfWarp;
constexpr unsigned kThreads = kWarps * kWarp;
constexpr float kLog2e = 1.4426950408889634F;

__device__ int lane_row() {  // and the one 8 further
  return static_cast<int>(threadIdx.x % kWarp) / 4;
}
__device__ int lane_column() {  // and the next one
  return static_cast<int>(threadIdx.x % 4) * 2;
}

__device__ std::uint32_t pair(std::uint16_t low, std::uint16_t high) {
  return static_cast<std::uint32_t>(high) << 16 | low;
}
__device__ std::uint32_t rounded_pair(float low, float high) {
  return pair(to_bf16(low).bits, to_bf16(high).bits);
}

// kOthers rows of a head, two elements to a word; a row is 4 words longer, which puts neighbouring rows on different
// banks.
template <int kColumns, int kOthers>
struct HeadTile {
  alignas(16) std::uint32_t at[kOthers][kColumns / 2 + 4];

  // `aligned`: rows are whole pieces of 16 bytes.
  __device__ void load(const HeadRows<const Bf16>& from, int first, int past, bool aligned) {
    constexpr int kPieces = kColumns / 8;
    for (int i = static_cast<int>(threadIdx.x); i < kOthers * kPieces; i += kThreads) {
      const int row = i / kPieces, column = i % kPieces * 8;
      const bool inside = first + row < past;
      std::uint32_t* const to = &at[row][column / 2];
      if (aligned && inside && column < from.cols) {
        copy_16(to, from.row(first + row) + column);
        continue;
      }
      const auto element = [&](int c) {
        return inside && c < from.cols ? from.row(first + row)[c].bits : std::uint16_t{0};
      };
      for (int c = 0; c < 8; c += 2) {
        to[c / 2] = pair(element(column + c), element(column + c + 1));
      }
    }
  }
  // Two neighbouring columns of a row.
  __device__ std::uint32_t along(int row, int column) const { return at[row][column / 2]; }
  // Two neighbouring rows of a column.
  __device__ std::uint32_t across(int row, int column) const {
    const int shift = column % 2 * 16;
    return pair(static_cast<std::uint16_t>(at[row][column / 2] >> shift),
                static_cast<std::uint16_t>(at[row + 1][column / 2] >> shift));
  }
};

// The left matrix of a product: a warp's 16 rows of a head.
template <int kColumns>
struct RowFragments {
  std::uint32_t at[kColumns / 16][4];

  __device__ void load(const HeadRows<const Bf16>& from, int first, int past) {
    const auto element = [&](int row, int column) {
      return row < past && column < from.cols ? from.row(row)[column].bits : std::uint16_t{0};
    };
    FORETRAIN_UNROLL
    for (int k = 0; k < kColumns / 16; ++k) {
      FORETRAIN_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = first + lane_row() + i % 2 * 8, column = k * 16 + i / 2 * 8 + lane_column();
        at[k][i] = pair(element(row, column), element(row, column + 1));
      }
    }
  }
};

// s = rows · others^T, of a warp's rows.
template <int kColumns, int kOthers>
__device__ void scores(const RowFragments<kColumns>& rows, const HeadTile<kColumns, kOthers>& others,
                       float (&s)[kOthers / 8][4]) {
  FORETRAIN_UNROLL
  for (int n = 0; n < kOthers / 8; ++n) {
    s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
    FORETRAIN_UNROLL
    for (int k = 0; k < kColumns / 16; ++k) {
      const int row = n * 8 + lane_row(), column = k * 16 + lane_column();
      mma_16x8x16(s[n], rows.at[k], {others.along(row, column), others.along(row, column + 8)});
    }
  }
}

// result += weights · others.
template <int kColumns, int kOthers>
__device__ void add_weighted(const float (&weights)[kOthers / 8][4], const HeadTile<kColumns, kOthers>& others,
                             float (&result)[kColumns / 8][4]) {
  FORETRAIN_UNROLL
  for (int k = 0; k < kOthers / 16; ++k) {
    const auto& low = weights[2 * k];
    const auto& high = weights[2 * k + 1];
    const std::uint32_t left[4] = {rounded_pair(low[0], low[1]), rounded_pair(low[2], low[3]),
                                   rounded_pair(high[0], high[1]), rounded_pair(high[2], high[3])};
    FORETRAIN_UNROLL
    for (int n = 0; n < kColumns / 8; ++n) {
      const int row = k * 16 + lane_column(), column = n * 8 + lane_row();
      mma_16x8x16(result[n], left, {others.across(row, column), others.across(row + 8, column)});
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

// Over the four lanes that share rows.
template <class F>
__device__ float over_row(float x, F f) {
  x = f(x, shuffle_xor(x, 1));
  return f(x, shuffle_xor(x, 2));
}

template <int kColumns, int kOthers>
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(AttentionForward<Bf16> a, int tiles, bool aligned) {
  __shared__ HeadTile<kColumns, kOthers> keys, values;
  const int of = static_cast<int>(blockIdx.x) / tiles, block_row = static_cast<int>(blockIdx.x) % tiles * kRows;
  const int sequence = of / a.heads.heads, head = of % a.heads.heads, kv_head = head / a.heads.group();
  const int row = block_row + static_cast<int>(threadIdx.x / kWarp) * kRowsOfWarp;
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  const float scale = static_cast<float>(a.heads.scale) * kLog2e;
  RowFragments<kColumns> q;
  q.load(a.heads.query(a.q, sequence, head), row, a.heads.seq);
  float result[kColumns / 8][4];
  clear<kColumns>(result);
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // of 2^x
  const Range range = a.sight.keys_of(block_row, block_row + kRows);
  for (int key = range.first; key < range.past; key += kOthers) {
    __syncthreads();
    keys.load(k, key, range.past, aligned);
    values.load(v, key, range.past, aligned);
    __syncthreads();
    float s[kOthers / 8][4];
    scores(q, keys, s);
    const bool whole = a.sight.see_all(block_row, block_row + kRows, {key, key + kOthers});
    FORETRAIN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int query = row + lane_row() + half * 8;
      float most = maximum[half];
      FORETRAIN_UNROLL
      for (int n = 0; n < kOthers / 8; ++n) {
        FORETRAIN_UNROLL
        for (int i = 0; i < 2; ++i) {
          float& x = s[n][half * 2 + i];
          x = whole || a.sight.sees(query, key + n * 8 + lane_column() + i) ? x * scale : -INFINITY;
          most = x > most ? x : most;
        }
      }
      most = over_row(most, [](float x, float y) { return x > y ? x : y; });
      // A row that has seen nothing yet stays as it is: -inf minus -inf would be NaN.
      const float base = most == -INFINITY ? 0.0F : most;
      const float factor = std::exp2(maximum[half] - base);
      float total = 0;
      FORETRAIN_UNROLL
      for (int n = 0; n < kOthers / 8; ++n) {
        FORETRAIN_UNROLL
        for (int i = 0; i < 2; ++i) {
          float& x = s[n][half * 2 + i];
          x = std::exp2(x - base);
          total += x;
        }
      }
      maximum[half] = most;
      sum[half] = sum[half] * factor + over_row(total, [](float x, float y) { return x + y; });
      FORETRAIN_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        result[n][half * 2] *= factor;
        result[n][half * 2 + 1] *= factor;
      }
    }
    add_weighted<kColumns, kOthers>(s, values, result);
  }
  const float factors[2] = {1 / sum[0], 1 / sum[1]};
  write<kColumns>(a.heads.out(a.o, sequence, head), row, {a.sight.first_query, a.sight.past_query}, factors, false,
                  result);
  FORETRAIN_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane_row() + half * 8;
    if (lane_column() == 0 && query < a.heads.seq) {
      a.lse[a.heads.statistics(sequence, head) + query] =
          sum[half] == 0 ? -INFINITY : maximum[half] / kLog2e + std::log(sum[half]);
    }
  }
}

template <int kColumns, int kOthers, Gradient kOf>
__global__ void __launch_bounds__(kThreads, 1) backward_kernel(AttentionBackward<Bf16> a, int tiles, bool aligned) {
  __shared__ HeadTile<kColumns, kOthers> first_others, second_others;  // keys, values; or queries, d_o
  constexpr bool rows_are_queries = kOf == Gradient::q;
  const int of = static_cast<int>(blockIdx.x) / tiles, block_row = static_cast<int>(blockIdx.x) % tiles * kRows;
  const int group = a.heads.group(), heads = rows_are_queries ? 1 : group;
  const int pair = a.first_pair + (rows_are_queries ? of / group : of);
  const int sequence = pair / a.heads.kv_heads, kv_head = pair % a.heads.kv_heads;
  const int first_head = kv_head * group + (rows_are_queries ? of % group : 0);
  const int row = block_row + static_cast<int>(threadIdx.x / kWarp) * kRowsOfWarp;
  const int past_row = rows_are_queries ? a.heads.seq : a.heads.key_seq;
  const float scale = static_cast<float>(a.heads.scale);
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  RowFragments<kColumns> first_rows, second_rows;
  if constexpr (rows_are_queries) {
    first_rows.load(a.heads.query(a.q, sequence, first_head), row, past_row);
    second_rows.load(a.heads.out(a.d_o, sequence, first_head), row, past_row);
  } else {
    first_rows.load(k, row, past_row);
    if constexpr (kOf == Gradient::k) {
      second_rows.load(v, row, past_row);
    }
  }
  float result[kColumns / 8][4];
  clear<kColumns>(result);
  const Range range = rows_are_queries ? a.sight.keys_of(block_row, block_row + kRows)
                                       : a.sight.queries_of(block_row, block_row + kRows);
  for (int head = first_head; head < first_head + heads; ++head) {
    const std::int64_t statistics = a.heads.statistics(sequence, head);
    const float* const lse = a.lse + statistics;
    const float* const dots = a.dots + statistics - a.heads.statistics(0, a.first_pair * group);
    for (int other = range.first; other < range.past; other += kOthers) {
      __syncthreads();
      first_others.load(rows_are_queries ? k : a.heads.query(a.q, sequence, head), other, range.past, aligned);
      second_others.load(rows_are_queries ? v : a.heads.out(a.d_o, sequence, head), other, range.past, aligned);
      __syncthreads();
      float s[kOthers / 8][4], dp[kOthers / 8][4];
      scores(first_rows, first_others, s);
      if constexpr (kOf != Gradient::v) {
        scores(second_rows, second_others, dp);
      }
      const bool whole = rows_are_queries ? a.sight.see_all(block_row, block_row + kRows, {other, other + kOthers})
                                          : a.sight.see_all(other, other + kOthers, {block_row, block_row + kRows});
      FORETRAIN_UNROLL
      for (int n = 0; n < kOthers / 8; ++n) {
        FORETRAIN_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int r = row + lane_row() + i / 2 * 8, c = other + n * 8 + lane_column() + i % 2;
          const int query = rows_are_queries ? r : c, key = rows_are_queries ? c : r;
          float weight = 0;
          if (whole || a.sight.sees(query, key)) {
            weight = std::exp2((s[n][i] * scale - lse[query]) * kLog2e);
            if constexpr (kOf != Gradient::v) {
              weight *= dp[n][i] - dots[query];
            }
          }
          s[n][i] = weight;
        }
      }
      add_weighted<kColumns, kOthers>(s, kOf == Gradient::v ? second_others : first_others, result);
    }
  }
  const float factor = kOf == Gradient::v ? 1.0F : scale;
  const HeadRows<Bf16> to = kOf == Gradient::q   ? a.heads.query(a.dq, sequence, first_head)
                            : kOf == Gradient::k ? a.heads.key(a.dk, sequence, kv_head)
                                                 : a.heads.value(a.dv, sequence, kv_head);
  write<kColumns>(to, row, {0, past_row}, {factor, factor}, rows_are_queries && a.add_to_dq, result);
}

bool is_aligned(const Heads& h, std::initializer_list<const void*> tensors) {
  bool aligned = h.ld_q % 8 == 0 && h.ld_kv % 8 == 0 && h.ld_o % 8 == 0 && h.head_dim % 8 == 0 && h.v_dim % 8 == 0;
  for (const void* tensor : tensors) {
    aligned = aligned && reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0;
  }
  return aligned;
}

template <int kColumns, int kOthers, Gradient kOf>
void launch_backward(const Stream& stream, const AttentionBackward<Bf16>& a, bool aligned) {
  const int tiles = ceil_div(kOf == Gradient::q ? a.heads.seq : a.heads.key_seq, kRows);
  const int pairs = a.pairs * (kOf == Gradient::q ? a.heads.group() : 1);
  launch(&backward_kernel<kColumns, kOthers, kOf>, {static_cast<unsigned>(pairs * tiles)}, {kThreads}, stream, a, tiles,
         aligned);
}

template <int kColumns, int kOthers>
void backward(const Stream& stream, const AttentionBackward<Bf16>& a) {
  const bool aligned = is_aligned(a.heads, {a.q, a.k, a.v, a.d_o});
  launch_backward<kColumns, kOthers, Gradient::q>(stream, a, aligned);
  launch_backward<kColumns, kOthers, Gradient::k>(stream, a, aligned);
  launch_backward<kColumns, kOthers, Gradient::v>(stream, a, aligned);
}

bool is_narrow(const Heads& heads) {
  return heads.head_dim <= 64 && heads.v_dim <= 64;
}

}  // namespace

void tensor_forward(const Stream& stream, const AttentionForward<Bf16>& a) {
  const int tiles = ceil_div(a.heads.seq, kRows);
  const auto kernel = is_narrow(a.heads) ? &forward_kernel<64, 64> : &forward_kernel<128, 64>;
  launch(kernel, {static_cast<unsigned>(a.heads.batch * a.heads.heads * tiles)}, {kThreads}, stream, a, tiles,
         is_aligned(a.heads, {a.k, a.v}));
}

// Beside the result, both rows' fragments and two tiles of scores are in registers: with 128 columns only for 32
// others.
void tensor_backward(const Stream& stream, const AttentionBackward<Bf16>& a) {
  is_narrow(a.heads) ? backward<64, 64>(stream, a) : backward<128, 32>(stream, a);
}

}  // namespace foretrain::kernels::cuda
