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

template <int kKey, int kValue, int kOthers>
struct ForwardMemory {
  HeadTiles<kKey, kValue, kOthers> buffers[2];
  typename Rows<kKey, kKey>::Shared q;
};

template <int kKey, int kValue, int kOthers, bool kBiased>
__global__ void __launch_bounds__(kTileThreads, 1) forward_kernel(AttentionForward<Bf16> a, int tiles, bool aligned) {
  auto& memory = *dynamic_shared<ForwardMemory<kKey, kValue, kOthers>>();
  const int of = static_cast<int>(blockIdx.x) / tiles, block_row = static_cast<int>(blockIdx.x) % tiles * kTileRows;
  const int sequence = of / a.heads.heads, head = of % a.heads.heads, kv_head = head / a.heads.group();
  const int row = warp_row(block_row);
  const auto k = a.heads.key(a.k, sequence, kv_head);
  const auto v = a.heads.value(a.v, sequence, kv_head);
  const float scale = static_cast<float>(a.heads.scale) * kLog2e;
  const Range range = a.sight.keys_of(block_row, block_row + kTileRows);
  const auto load = [&](int key, HeadTiles<kKey, kValue, kOthers>& to) {
    if (key < range.past) {
      to.first.load(k, key, range.past, aligned);
      to.second.load(v, key, range.past, aligned);
    }
  };
  load(range.first, memory.buffers[0]);
  Rows<kKey, kKey> q(memory.q);
  q.load(a.heads.query(a.q, sequence, head), block_row, a.heads.seq, aligned);
  float result[kValue / 8][4];
  clear<kValue>(result);
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // of 2^x
  int now = 0;
  for (int key = range.first; key < range.past; key += kOthers, now ^= 1) {
    finish_copies();
    __syncthreads();  // the tiles are there, and nobody reads the last ones
    load(key + kOthers, memory.buffers[now ^ 1]);
    float s[kOthers / 8][4];
    scores(q, memory.buffers[now].first, s);
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
          const int other = key + n * 8 + lane_column() + i;
          const bool sees = whole || a.sight.sees(query, other);
          x = sees ? x * scale : -INFINITY;
          if (kBiased && sees) {
            x += a.bias[a.heads.distance(head, query, other)] * kLog2e;
          }
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
      for (int n = 0; n < kValue / 8; ++n) {
        result[n][half * 2] *= factor;
        result[n][half * 2 + 1] *= factor;
      }
    }
    add_weighted<kValue, kOthers>(s, memory.buffers[now].second, result);
  }
  const float factors[2] = {1 / sum[0], 1 / sum[1]};
  write<kValue>(a.heads.out(a.o, sequence, head), row, {a.sight.first_query, a.sight.past_query}, factors, false,
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

template <int kKey, int kValue, int kOthers, bool kBiased = false>
void run(const Stream& stream, const AttentionForward<Bf16>& a) {
  const int tiles = ceil_div(a.heads.seq, kTileRows);
  launch_shared(&forward_kernel<kKey, kValue, kOthers, kBiased>,
                {static_cast<unsigned>(a.heads.batch * a.heads.heads * tiles)}, {kTileThreads},
                sizeof(ForwardMemory<kKey, kValue, kOthers>), stream, a, tiles, is_aligned(a.heads, {a.q, a.k, a.v}));
}

}  // namespace

// What a block has in shared memory leaves room for a second one on a processor of compute capability 9.0.
void tensor_forward(const Stream& stream, const AttentionForward<Bf16>& a) {
  if (a.bias != nullptr) {
    is_narrow(a.heads) ? run<64, 64, 64, true>(stream, a) : run<128, 128, 32, true>(stream, a);
    return;
  }
  switch (width_of(a.heads)) {
    case Width::of_64: run<64, 64, 64>(stream, a); break;
    case Width::of_128: run<128, 128, 32>(stream, a); break;
    case Width::of_192_128: run<192, 128, 32>(stream, a); break;
    case Width::of_256: run<256, 256, 32>(stream, a); break;
  }
}

}  // namespace foretrain::kernels::cuda
