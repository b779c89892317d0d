// Packing of latent attention's heads: bytes moved, and a rotation of few of them. One build serves every processor.
#include "kernels/arguments.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"
#include "kernels/scratch.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

// Calls f with a value of the type that stores an element, and one of the type it is computed in.
template <class F>
void with_stored(Dtype d, F f) {
  switch (d) {
    case Dtype::fp64: f(double{}, double{}); break;
    case Dtype::fp32: f(float{}, float{}); break;
    case Dtype::fp16: f(Fp16{}, float{}); break;
    default: f(Bf16{}, float{}); break;
  }
}

// Sines and cosines of one position.
template <class W>
struct Turn {
  const W* cos;
  const W* sin;
  int64_t half;
};

// out = x turned forwards or (direction -1) back; out may be x.
template <class T, class W>
void turn(const Turn<W>& t, W direction, const T* x, T* out) {
  for (int64_t i = 0; i < t.half; ++i) {
    const W low = static_cast<W>(x[i]), high = static_cast<W>(x[i + t.half]);
    const W c = t.cos[i], n = direction * t.sin[i];
    out[i] = static_cast<T>(low * c - high * n);
    out[i + t.half] = static_cast<T>(high * c + low * n);
  }
}

template <class T>
void copy(const T* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) {
    to[i] = from[i];
  }
}

template <class W>
RotaryTable<W> table_of(const LatentHeadsShape& s, const RotaryFrequencies& frequencies) {
  return rotary_table<W>(s.seq, s.rope_dim, frequencies, s.position_offset);
}

template <class W>
Turn<W> turn_of(const LatentHeadsShape& s, const RotaryTable<W>& table, int64_t token) {
  const int64_t half = s.rope_dim / 2, at = token % s.seq * half;
  return {table.cos + at, table.sin + at, half};
}

}  // namespace

void latent_heads_forward(const LatentHeadsShape& s, const RotaryFrequencies& frequencies, ConstTensor q,
                          ConstTensor kv, ConstTensor k_rope, Tensor qkv) {
  arguments::latent_heads_forward(s, frequencies, q, kv, k_rope, qkv);
  with_stored(qkv.dtype, [&](auto stored, auto wide_value) {
    using T = decltype(stored);
    using W = decltype(wide_value);
    const RotaryTable<W> table = table_of<W>(s, frequencies);
    for (int64_t t = 0; t < s.tokens(); ++t) {
      const Turn<W> here = turn_of(s, table, t);
      const T* shared = static_cast<const T*>(k_rope.data) + t * s.rope_dim;
      for (int64_t h = 0; h < s.heads; ++h) {
        const T* query = static_cast<const T*>(q.data) + t * s.q_cols() + h * s.head_dim();
        const T* pair = static_cast<const T*>(kv.data) + t * s.kv_cols() + h * (s.nope_dim + s.v_dim);
        T* const row = static_cast<T*>(qkv.data) + t * s.qkv_cols();
        T* const out_q = row + h * s.head_dim();
        T* const out_k = row + s.q_cols() + h * s.head_dim();
        copy(query, s.nope_dim, out_q);
        turn(here, W{1}, query + s.nope_dim, out_q + s.nope_dim);
        copy(pair, s.nope_dim, out_k);
        turn(here, W{1}, shared, out_k + s.nope_dim);
        copy(pair + s.nope_dim, s.v_dim, row + 2 * s.q_cols() + h * s.v_dim);
      }
    }
  });
}

void latent_heads_backward(const LatentHeadsShape& s, const RotaryFrequencies& frequencies, ConstTensor dqkv, Tensor dq,
                           Tensor dkv, Tensor dk_rope) {
  arguments::latent_heads_backward(s, frequencies, dqkv, dq, dkv, dk_rope);
  with_stored(dqkv.dtype, [&](auto stored, auto wide_value) {
    using T = decltype(stored);
    using W = decltype(wide_value);
    const RotaryTable<W> table = table_of<W>(s, frequencies);
    auto* const sum =
        static_cast<W*>(scratch(Scratch::op, static_cast<std::size_t>(s.rope_dim) * sizeof(W)));  // over the heads
    for (int64_t t = 0; t < s.tokens(); ++t) {
      const Turn<W> here = turn_of(s, table, t);
      const T* row = static_cast<const T*>(dqkv.data) + t * s.qkv_cols();
      for (int64_t i = 0; i < s.rope_dim; ++i) {
        sum[i] = 0;
      }
      for (int64_t h = 0; h < s.heads; ++h) {
        const T* in_q = row + h * s.head_dim();
        const T* in_k = row + s.q_cols() + h * s.head_dim();
        T* const query = static_cast<T*>(dq.data) + t * s.q_cols() + h * s.head_dim();
        T* const pair = static_cast<T*>(dkv.data) + t * s.kv_cols() + h * (s.nope_dim + s.v_dim);
        copy(in_q, s.nope_dim, query);
        turn(here, W{-1}, in_q + s.nope_dim, query + s.nope_dim);
        copy(in_k, s.nope_dim, pair);
        copy(row + 2 * s.q_cols() + h * s.v_dim, s.v_dim, pair + s.nope_dim);
        for (int64_t i = 0; i < s.rope_dim; ++i) {
          sum[i] += static_cast<W>(in_k[s.nope_dim + i]);
        }
      }
      // The turn is the same for all heads: once, of their sum.
      turn(here, W{-1}, sum, sum);
      T* const shared = static_cast<T*>(dk_rope.data) + t * s.rope_dim;
      for (int64_t i = 0; i < s.rope_dim; ++i) {
        shared[i] = static_cast<T>(sum[i]);
      }
    }
  });
}

}  // namespace foretrain::kernels
