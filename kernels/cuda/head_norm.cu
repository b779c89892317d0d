// A warp for each head of each token.
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// A head of q or k: its number, and where it begins in the packed row and in the one of raw values.
struct Head {
  int64_t number, packed, raw;
};

__device__ Head head_at(const HeadNormShape& s, int64_t i) {
  const Place at = place_of(i, s.heads + s.kv_heads);
  return {at.col, at.row * s.qkv_cols() + at.col * s.head_dim, at.row * s.raw_cols() + at.col * s.head_dim};
}

template <class W, class F>
__device__ W head_sum(int64_t head_dim, F f) {
  W sum = 0;
  for (int64_t i = lane(); i < head_dim; i += kWarp) {
    sum += f(i);
  }
  return over_warp(Sum{}, sum);
}

template <class T>
__device__ Wide<T> inverse_rms(const HeadNormShape& s, const T* x) {
  using W = Wide<T>;
  const W squares = head_sum<W>(s.head_dim, [=](int64_t i) { return widen(x[i]) * widen(x[i]); });
  return W{1} / std::sqrt(squares / static_cast<W>(s.head_dim) + static_cast<W>(s.epsilon));
}

template <class T, class P>
__global__ void __launch_bounds__(kThreads) forward(HeadNormShape s, const P* q_gain, const P* k_gain, T* qkv, T* raw) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + warp();
  if (i >= s.rows * (s.heads + s.kv_heads)) {
    return;
  }
  const Head head = head_at(s, i);
  T* const x = qkv + head.packed;
  const P* const gain = head.number < s.heads ? q_gain : k_gain;
  const Wide<T> inverse = inverse_rms(s, x);
  for (int64_t c = lane(); c < s.head_dim; c += kWarp) {
    const T value = x[c];
    raw[head.raw + c] = value;
    x[c] = narrow<T>(widen(value) * inverse * static_cast<Wide<T>>(widen(gain[c])));
  }
}

// As norm_backward_input: dx = rstd g - rstd^3 mean(g x) x with g = dy gain.
template <class T, class P>
__global__ void __launch_bounds__(kThreads)
    backward_input(HeadNormShape s, const T* raw, const P* q_gain, const P* k_gain, T* dqkv) {
  using W = Wide<T>;
  const int64_t i = int64_t{blockIdx.x} * kWarps + warp();
  if (i >= s.rows * (s.heads + s.kv_heads)) {
    return;
  }
  const Head head = head_at(s, i);
  const T* const x = raw + head.raw;
  T* const d = dqkv + head.packed;
  const P* const gain = head.number < s.heads ? q_gain : k_gain;
  const W inverse = inverse_rms(s, x);
  const auto g = [=](int64_t c) { return widen(d[c]) * static_cast<W>(widen(gain[c])); };
  const W mean =
      head_sum<W>(s.head_dim, [=](int64_t c) { return g(c) * widen(x[c]) * inverse; }) / static_cast<W>(s.head_dim);
  for (int64_t c = lane(); c < s.head_dim; c += kWarp) {
    d[c] = narrow<T>(inverse * (g(c) - mean * widen(x[c]) * inverse));
  }
}

// 1 / rms of every head, for backward_weight.
template <class T>
__global__ void __launch_bounds__(kThreads) inverses(HeadNormShape s, const T* raw, Wide<T>* out) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + warp();
  if (i < s.rows * (s.heads + s.kv_heads)) {
    const Wide<T> inverse = inverse_rms(s, raw + head_at(s, i).raw);
    if (lane() == 0) {
      out[i] = inverse;
    }
  }
}

// Rows are those of one kind of head: `count` of each token, from `first` on.
template <class T>
struct Gain {
  HeadNormShape s;
  int64_t first, count;
  const T* raw;
  const T* dqkv;
  const Wide<T>* inverse;

  __device__ Values<Sums<Wide<T>, 1>, 1> operator()(int64_t row, int64_t col) const {
    const Place at = place_of(row, count);
    const int64_t i = at.row * (s.heads + s.kv_heads) + first + at.col;
    const Head head = head_at(s, i);
    return {{{{widen(dqkv[head.packed + col]) * widen(raw[head.raw + col]) * inverse[i]}}}};
  }
};

}  // namespace

void head_norm_forward(const Stream& stream, const HeadNormShape& s, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv,
                       Tensor raw) {
  arguments::head_norm_forward(s, q_gain, k_gain, qkv, raw);
  with_types(qkv.dtype, q_gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    launch(forward<T, P>, {blocks_of(s.rows * (s.heads + s.kv_heads), kWarps)}, {kThreads}, stream, s, as<P>(q_gain),
           as<P>(k_gain), as<T>(qkv), as<T>(raw));
  });
}

void head_norm_backward_input(const Stream& stream, const HeadNormShape& s, ConstTensor raw, ConstTensor q_gain,
                              ConstTensor k_gain, Tensor dqkv) {
  arguments::head_norm_backward_input(s, raw, q_gain, k_gain, dqkv);
  with_types(raw.dtype, q_gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    launch(backward_input<T, P>, {blocks_of(s.rows * (s.heads + s.kv_heads), kWarps)}, {kThreads}, stream, s,
           as<T>(raw), as<P>(q_gain), as<P>(k_gain), as<T>(dqkv));
  });
}

// In pieces of rows whose 1 / rms fill half of the workspace; the other half is for the sums.
void head_norm_backward_weight(const Stream& stream, const HeadNormShape& shape, ConstTensor raw, ConstTensor dqkv,
                               Tensor dq_gain, Tensor dk_gain) {
  arguments::head_norm_backward_weight(shape, raw, dqkv, dq_gain, dk_gain);
  with_type(raw.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    const int64_t heads = shape.heads + shape.kv_heads;
    const auto room = static_cast<int64_t>(kWorkspaceBytes / 2 / sizeof(W));
    auto* const inverse = static_cast<W*>(stream.workspace) + room;
    HeadNormShape s = shape;
    for (int64_t row = 0; row < shape.rows && heads > 0; row += s.rows) {
      s.rows = room / heads < shape.rows - row ? room / heads : shape.rows - row;
      const T* const values = as<T>(raw) + row * s.raw_cols();
      const T* const gradients = as<T>(dqkv) + row * s.qkv_cols();
      launch(inverses<T>, {blocks_of(s.rows * heads, kWarps)}, {kThreads}, stream, s, values, inverse);
      const auto add = [&](int64_t first, int64_t count, Tensor gain) {
        if (count > 0) {
          sum_columns<1, W, 1>(stream, s.rows * count, s.head_dim, Gain<T>{s, first, count, values, gradients, inverse},
                               {{as<W>(gain)}}, true);
        }
      };
      add(0, s.heads, dq_gain);
      add(s.heads, s.kv_heads, dk_gain);
    }
  });
}

}  // namespace foretrain::kernels::cuda
