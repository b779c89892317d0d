// The backward of attention in bf16 on tensor cores: a pass for dq and one for dk and dv, each of which computes the
// weights again, so that every sum is in one block's registers, in one order.
#include "kernels/cuda/attention_tiles.h"

namespace foretrain::kernels::cuda {

namespace {

// What a pass computes of its rows: of queries, or of keys.
enum class Pass : std::uint8_t { dq, dk, dv, dk_dv };

// Of a query: of its scores in powers of 2, and what stands against dp.
struct Statistic {
  float lse = 0, dots = 0;
};

struct QueryStatistics {
  const float *lse, *dots;
  int seq;

  __device__ Statistic of(int query) const {
    return query < seq ? Statistic{lse[query] * kLog2e, dots[query]} : Statistic{};
  }
};

// A tile of ds where its diagonals are to be added up.
template <int kOthers, bool kIsThere>
struct DsTile {
  float at[kTileRows][kOthers + 1];

  __device__ void store(const float (&ds)[kOthers / 8][4]) {
    FORETRAIN_UNROLL
    for (int n = 0; n < kOthers / 8; ++n) {
      FORETRAIN_UNROLL
      for (int i = 0; i < 4; ++i) {
        at[warp_row(0) + lane_row() + i / 2 * 8][n * 8 + lane_column() + i % 2] = ds[n][i];
      }
    }
  }
};
template <int kOthers>
struct DsTile<kOthers, false> {};

template <int kKey, int kValue, int kOthers, bool kHasDs>
struct BackwardMemory {
  HeadTiles<kKey, kValue, kOthers> buffers[2];  // keys, values; or queries, d_o
  typename Rows<kKey, kKey>::Shared first_rows;
  typename Rows<kValue, kKey>::Shared second_rows;
  DsTile<kOthers, kHasDs> ds;
};

template <int kKey, int kValue, int kOthers, Pass kPass, bool kBiased>
__global__ void __launch_bounds__(kTileThreads, 1) backward_kernel(AttentionBackward<Bf16> a, int tiles, bool aligned) {
  constexpr bool rows_are_queries = kPass == Pass::dq;
  constexpr bool adds_diagonals = rows_are_queries && kBiased;
  auto& memory = *dynamic_shared<BackwardMemory<kKey, kValue, kOthers, adds_diagonals>>();
  constexpr bool needs_dp = kPass != Pass::dv;
  const int of = static_cast<int>(blockIdx.x) / tiles, block_row = static_cast<int>(blockIdx.x) % tiles * kTileRows;
  const int group = a.heads.group();
  const int pair = a.first_pair + (rows_are_queries ? of / group : of);
  const int sequence = pair / a.heads.kv_heads, kv_head = pair % a.heads.kv_heads;
  const int first_head = kv_head * group + (rows_are_queries ? of % group : 0);
  const int row = warp_row(block_row), past_row = rows_are_queries ? a.heads.seq : a.heads.key_seq;
  const float scale = static_cast<float>(a.heads.scale);
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  const auto statistics_of = [&](int head) {
    const std::int64_t at = a.heads.statistics(sequence, head);
    return QueryStatistics{a.lse + at, a.dots + at - a.heads.statistics(0, a.first_pair * group), a.heads.seq};
  };

  // Tile after tile of others: with keys as rows, of the queries of all heads of the group.
  const Range range = rows_are_queries ? a.sight.keys_of(block_row, block_row + kTileRows)
                                       : a.sight.queries_of(block_row, block_row + kTileRows);
  const int of_head = ceil_div(range.past - range.first, kOthers), steps = of_head * (rows_are_queries ? 1 : group);
  const auto load = [&](int step, HeadTiles<kKey, kValue, kOthers>& to) {
    if (step < steps) {
      const int head = first_head + step / of_head, other = range.first + step % of_head * kOthers;
      to.first.load(rows_are_queries ? k : a.heads.query(a.q, sequence, head), other, range.past, aligned);
      to.second.load(rows_are_queries ? v : a.heads.out(a.d_o, sequence, head), other, range.past, aligned);
    }
  };
  load(0, memory.buffers[0]);

  Rows<kKey, kKey> first_rows(memory.first_rows);
  Rows<kValue, kKey> second_rows(memory.second_rows);
  Statistic of_rows[2];
  if constexpr (rows_are_queries) {
    first_rows.load(a.heads.query(a.q, sequence, first_head), block_row, past_row, aligned);
    second_rows.load(a.heads.out(a.d_o, sequence, first_head), block_row, past_row, aligned);
    of_rows[0] = statistics_of(first_head).of(row + lane_row());
    of_rows[1] = statistics_of(first_head).of(row + lane_row() + 8);
  } else {
    first_rows.load(k, block_row, past_row, aligned);
    if constexpr (needs_dp) {
      second_rows.load(v, block_row, past_row, aligned);
    }
  }
  [[maybe_unused]] float* const sums = adds_diagonals ? sums_of_block(a) : nullptr;
  float to_first[kKey / 8][4], to_second[kValue / 8][4];  // dq or dk; dv
  clear<kKey>(to_first);
  clear<kValue>(to_second);
  for (int step = 0; step < steps; ++step) {
    const HeadTiles<kKey, kValue, kOthers>& others = memory.buffers[step % 2];
    finish_copies();
    __syncthreads();  // the tiles are there, and nobody reads the last ones
    load(step + 1, memory.buffers[(step + 1) % 2]);
    const int other = range.first + step % of_head * kOthers;
    const int head = first_head + step / of_head;
    const QueryStatistics statistics = statistics_of(head);
    float weights[kOthers / 8][4], ds[kOthers / 8][4];
    scores(first_rows, others.first, weights);
    if constexpr (needs_dp) {
      scores(second_rows, others.second, ds);
    }
    const bool whole = rows_are_queries ? a.sight.see_all(block_row, block_row + kTileRows, {other, other + kOthers})
                                        : a.sight.see_all(other, other + kOthers, {block_row, block_row + kTileRows});
    FORETRAIN_UNROLL
    for (int n = 0; n < kOthers / 8; ++n) {
      FORETRAIN_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int r = row + lane_row() + i / 2 * 8, c = other + n * 8 + lane_column() + i % 2;
        const int query = rows_are_queries ? r : c, key = rows_are_queries ? c : r;
        const Statistic at = rows_are_queries ? of_rows[i / 2] : statistics.of(query);
        float& weight = weights[n][i];
        const bool sees = whole || a.sight.sees(query, key);
        weight *= scale * kLog2e;
        if (kBiased && sees) {
          weight += a.bias[a.heads.distance(head, query, key)] * kLog2e;
        }
        weight = sees ? power_of_2(weight - at.lse) : 0.0F;
        if constexpr (needs_dp) {
          ds[n][i] = sees ? weight * (ds[n][i] - at.dots) : 0.0F;
        }
      }
    }
    if constexpr (adds_diagonals) {
      memory.ds.store(ds);
      __syncthreads();
      add_diagonals(a.heads, memory.ds.at, other, sums);
    }
    if constexpr (kPass == Pass::dv || kPass == Pass::dk_dv) {
      add_weighted<kValue, kOthers>(weights, others.second, to_second);
    }
    if constexpr (needs_dp) {
      add_weighted<kKey, kOthers>(ds, others.first, to_first);
    }
  }
  if constexpr (rows_are_queries) {
    write<kKey>(a.heads.query(a.dq, sequence, first_head), row, {0, past_row}, {scale, scale}, a.add_to_dq, to_first);
  } else {
    if constexpr (needs_dp) {
      write<kKey>(a.heads.key(a.dk, sequence, kv_head), row, {0, past_row}, {scale, scale}, false, to_first);
    }
    if constexpr (kPass != Pass::dk) {
      write<kValue>(a.heads.value(a.dv, sequence, kv_head), row, {0, past_row}, {1, 1}, false, to_second);
    }
  }
}

template <int kKey, int kValue, int kOthers, Pass kPass, bool kBiased = false>
void run(const Stream& stream, const AttentionBackward<Bf16>& a) {
  constexpr bool rows_are_queries = kPass == Pass::dq;
  const int tiles = ceil_div(rows_are_queries ? a.heads.seq : a.heads.key_seq, kTileRows);
  const int pairs = a.pairs * (rows_are_queries ? a.heads.group() : 1);
  launch_shared(&backward_kernel<kKey, kValue, kOthers, kPass, kBiased>, {static_cast<unsigned>(pairs * tiles)},
                {kTileThreads}, sizeof(BackwardMemory < kKey, kValue, kOthers, rows_are_queries && kBiased >), stream,
                a, tiles, is_aligned(a.heads, {a.q, a.k, a.v, a.d_o}));
}

template <bool kBiased>
void run_64(const Stream& stream, const AttentionBackward<Bf16>& a) {
  run<64, 64, 32, Pass::dq, kBiased>(stream, a);
  run<64, 64, 32, Pass::dk_dv, kBiased>(stream, a);
}

template <bool kBiased>
void run_128(const Stream& stream, const AttentionBackward<Bf16>& a) {
  run<128, 128, 16, Pass::dq, kBiased>(stream, a);
  run<128, 128, 32, Pass::dk, kBiased>(stream, a);
  run<128, 128, 32, Pass::dv, kBiased>(stream, a);
}

}  // namespace

// Two tiles of scores and the results are in registers, and rows of up to 128 columns: those, and results of 256, leave
// no room for both dk and dv.
void tensor_backward(const Stream& stream, const AttentionBackward<Bf16>& a) {
  if (a.bias != nullptr) {
    is_narrow(a.heads) ? run_64<true>(stream, a) : run_128<true>(stream, a);
    return;
  }
  switch (width_of(a.heads)) {
    case Width::of_64: run_64<false>(stream, a); break;
    case Width::of_128: run_128<false>(stream, a); break;
    case Width::of_192_128:
      run<192, 128, 16, Pass::dq>(stream, a);
      run<192, 128, 16, Pass::dk_dv>(stream, a);
      break;
    case Width::of_256:
      run<256, 256, 16, Pass::dq>(stream, a);
      run<256, 256, 16, Pass::dk>(stream, a);
      run<256, 256, 16, Pass::dv>(stream, a);
      break;
  }
}

}  // namespace foretrain::kernels::cuda
