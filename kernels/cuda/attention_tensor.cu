// The forward of attention in bf16 on tensor cores, by tiles with an online softmax (Dao, "FlashAttention-2", 2023).
#include "kernels/cuda/attention_tiles.h"

namespace foretrain::kernels::cuda {

namespace {

// Over the four lanes that share rows.
template <class F>
__device__ float over_row(float x, F f) {
  x = f(x, shuffle_xor(x, 1));
  return f(x, shuffle_xor(x, 2));
}

template <int kColumns, int kOthers>
__global__ void __launch_bounds__(kTileThreads, 1) forward_kernel(AttentionForward<Bf16> a, int tiles, bool aligned) {
  __shared__ HeadTiles<kColumns, kOthers> buffers[2];
  const int of = static_cast<int>(blockIdx.x) / tiles, block_row = static_cast<int>(blockIdx.x) % tiles * kTileRows;
  const int sequence = of / a.heads.heads, head = of % a.heads.heads, kv_head = head / a.heads.group();
  const int row = warp_row(block_row);
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  const float scale = static_cast<float>(a.heads.scale) * kLog2e;
  const Range range = a.sight.keys_of(block_row, block_row + kTileRows);
  const auto load = [&](int key, HeadTiles<kColumns, kOthers>& to) {
    if (key < range.past) {
      to.first.load(k, key, range.past, aligned);
      to.second.load(v, key, range.past, aligned);
    }
  };
  load(range.first, buffers[0]);
  RowFragments<kColumns> q;
  q.load(a.heads.query(a.q, sequence, head), row, a.heads.seq);
  float result[kColumns / 8][4];
  clear<kColumns>(result);
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // of 2^x
  int now = 0;
  for (int key = range.first; key < range.past; key += kOthers, now ^= 1) {
    finish_copies();
    __syncthreads();  // the tiles are there, and nobody reads the last ones
    load(key + kOthers, buffers[now ^ 1]);
    float s[kOthers / 8][4];
    scores(q, buffers[now].first, s);
    const bool whole = a.sight.see_all(block_row, block_row + kTileRows, {key, key + kOthers});
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
      const float factor = power_of_2(maximum[half] - base);
      float total = 0;
      FORETRAIN_UNROLL
      for (int n = 0; n < kOthers / 8; ++n) {
        FORETRAIN_UNROLL
        for (int i = 0; i < 2; ++i) {
          float& x = s[n][half * 2 + i];
          x = power_of_2(x - base);
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
    add_weighted<kColumns, kOthers>(s, buffers[now].second, result);
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

}  // namespace

// Four tiles of a block are in shared memory: with 128 columns of 32 others.
void tensor_forward(const Stream& stream, const AttentionForward<Bf16>& a) {
  const int tiles = ceil_div(a.heads.seq, kTileRows);
  const auto kernel = is_narrow(a.heads) ? &forward_kernel<64, 64> : &forward_kernel<128, 32>;
  launch(kernel, {static_cast<unsigned>(a.heads.batch * a.heads.heads * tiles)}, {kTileThreads}, stream, a, tiles,
         is_aligned(a.heads, {a.k, a.v}));
}

}  // namespace foretrain::kernels::cuda
