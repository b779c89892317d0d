// A block for each token.
#include "kernels/arguments.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/turns.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// Calls f(head, col) for every column of every head.
template <class F>
__device__ void each_column(int64_t heads, int64_t cols, F f) {
  for (int64_t i = threadIdx.x; i < heads * cols; i += kThreads) {
    const Place at = place_of(i, cols);
    f(at.row, at.col);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    forward(LatentHeadsShape s, RotaryFrequencies frequencies, const T* q, const T* kv, const T* k_rope, T* qkv) {
  using W = Wide<T>;
  const int64_t token = blockIdx.x, pair = s.nope_dim + s.v_dim;
  const Turns<W> turns = turns_at<W>(s.position_offset + token % s.seq, s.rope_dim, frequencies);
  const T* const in_q = q + token * s.q_cols();
  const T* const in_kv = kv + token * s.kv_cols();
  const T* const shared = k_rope + token * s.rope_dim;
  T* const out_q = qkv + token * s.qkv_cols();
  T* const out_k = out_q + s.q_cols();
  T* const out_v = out_k + s.q_cols();
  each_column(s.heads, s.nope_dim, [&](int64_t h, int64_t c) {
    out_q[h * s.head_dim() + c] = in_q[h * s.head_dim() + c];
    out_k[h * s.head_dim() + c] = in_kv[h * pair + c];
  });
  each_column(s.heads, s.v_dim,
              [&](int64_t h, int64_t c) { out_v[h * s.v_dim + c] = in_kv[h * pair + s.nope_dim + c]; });
  const auto put = [&](const T* from, int64_t i, T* to) {
    const Turned<W> x = turned(turns, W{1}, i, widen(from[i]), widen(from[i + turns.half]));
    to[i] = narrow<T>(x.low);
    to[i + turns.half] = narrow<T>(x.high);
  };
  each_column(s.heads, turns.half, [&](int64_t h, int64_t i) {
    const int64_t rope = h * s.head_dim() + s.nope_dim;
    put(in_q + rope, i, out_q + rope);
    put(shared, i, out_k + rope);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward(LatentHeadsShape s, RotaryFrequencies frequencies, const T* dqkv, T* dq, T* dkv, T* dk_rope) {
  using W = Wide<T>;
  const int64_t token = blockIdx.x, pair = s.nope_dim + s.v_dim;
  const Turns<W> turns = turns_at<W>(s.position_offset + token % s.seq, s.rope_dim, frequencies);
  const T* const in_q = dqkv + token * s.qkv_cols();
  const T* const in_k = in_q + s.q_cols();
  const T* const in_v = in_k + s.q_cols();
  T* const out_q = dq + token * s.q_cols();
  T* const out_kv = dkv + token * s.kv_cols();
  T* const shared = dk_rope + token * s.rope_dim;
  each_column(s.heads, s.nope_dim, [&](int64_t h, int64_t c) {
    out_q[h * s.head_dim() + c] = in_q[h * s.head_dim() + c];
    out_kv[h * pair + c] = in_k[h * s.head_dim() + c];
  });
  each_column(s.heads, s.v_dim,
              [&](int64_t h, int64_t c) { out_kv[h * pair + s.nope_dim + c] = in_v[h * s.v_dim + c]; });
  each_column(s.heads, turns.half, [&](int64_t h, int64_t i) {
    const T* const from = in_q + h * s.head_dim() + s.nope_dim + i;
    T* const to = out_q + h * s.head_dim() + s.nope_dim + i;
    const Turned<W> x = turned(turns, W{-1}, i, widen(from[0]), widen(from[turns.half]));
    to[0] = narrow<T>(x.low);
    to[turns.half] = narrow<T>(x.high);
  });
  // The turn is the same for all heads: once, of their sum.
  each_column(1, turns.half, [&](int64_t, int64_t i) {
    W low = 0, high = 0;
    for (int64_t h = 0; h < s.heads; ++h) {
      const T* const from = in_k + h * s.head_dim() + s.nope_dim + i;
      low += widen(from[0]);
      high += widen(from[turns.half]);
    }
    const Turned<W> x = turned(turns, W{-1}, i, low, high);
    shared[i] = narrow<T>(x.low);
    shared[i + turns.half] = narrow<T>(x.high);
  });
}

}  // namespace

void latent_heads_forward(const Stream& stream, const LatentHeadsShape& s, const RotaryFrequencies& frequencies,
                          ConstTensor q, ConstTensor kv, ConstTensor k_rope, Tensor qkv) {
  arguments::latent_heads_forward(s, frequencies, q, kv, k_rope, qkv);
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch_shared(forward<T>, {static_cast<unsigned>(s.tokens())}, {kThreads}, turns_bytes<Wide<T>>(s.rope_dim), stream,
                  s, frequencies, as<T>(q), as<T>(kv), as<T>(k_rope), as<T>(qkv));
  });
}

void latent_heads_backward(const Stream& stream, const LatentHeadsShape& s, const RotaryFrequencies& frequencies,
                           ConstTensor dqkv, Tensor dq, Tensor dkv, Tensor dk_rope) {
  arguments::latent_heads_backward(s, frequencies, dqkv, dq, dkv, dk_rope);
  with_type(dqkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch_shared(backward<T>, {static_cast<unsigned>(s.tokens())}, {kThreads}, turns_bytes<Wide<T>>(s.rope_dim),
                  stream, s, frequencies, as<T>(dqkv), as<T>(dq), as<T>(dkv), as<T>(dk_rope));
  });
}

}  // namespace foretrain::kernels::cuda
