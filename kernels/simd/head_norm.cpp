#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// 1 / rms of a head. The backward takes it again: a head is short, and to store it for each would cost more.
template <class T>
Wide<T> inverse_rms(const HeadNormShape& s, const T* x) {
  using W = Wide<T>;
  const W squares = sum_vectors<W>(s.head_dim, [&](int64_t i, auto access) {
    const Vec<W> v = access.load(x + i);
    return v * v;
  });
  return W{1} / std::sqrt(squares / static_cast<W>(s.head_dim) + static_cast<W>(s.epsilon));
}

// Calls f(head within q and k, its first element in the packed row, and in the raw one) for every token.
template <class F>
void for_each_head(const HeadNormShape& s, F f) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      f(h, r * s.qkv_cols() + h * s.head_dim, r * s.raw_cols() + h * s.head_dim);
    }
  }
}

template <class T, class P>
void forward(const HeadNormShape& s, const P* q_gain, const P* k_gain, T* qkv, T* raw) {
  using W = Wide<T>;
  for_each_head(s, [&](int64_t h, int64_t packed, int64_t kept) {
    T* x = qkv + packed;
    T* copy = raw + kept;
    const P* gain = h < s.heads ? q_gain : k_gain;
    const W inverse = inverse_rms(s, x);
    for_vectors<W>(s.head_dim, [&](int64_t i, auto access) {
      const Vec<W> v = access.load(x + i);
      access.store(copy + i, v);
      access.store(x + i, v * inverse * access.load(gain + i));
    });
  });
}

// As norm_backward_input: dx = rstd g - rstd^3 mean(g x) x with g = dy gain.
template <class T, class P>
void backward_input(const HeadNormShape& s, const T* raw, const P* q_gain, const P* k_gain, T* dqkv) {
  using W = Wide<T>;
  for_each_head(s, [&](int64_t h, int64_t packed, int64_t kept) {
    const T* x = raw + kept;
    T* d = dqkv + packed;
    const P* gain = h < s.heads ? q_gain : k_gain;
    const W inverse = inverse_rms(s, x);
    const W sum = sum_vectors<W>(s.head_dim, [&](int64_t i, auto access) {
      return access.load(d + i) * access.load(gain + i) * access.load(x + i);
    });
    const W b = inverse * inverse * inverse * sum / static_cast<W>(s.head_dim);
    for_vectors<W>(s.head_dim, [&](int64_t i, auto access) {
      access.store(d + i, inverse * access.load(d + i) * access.load(gain + i) - b * access.load(x + i));
    });
  });
}

template <class T>
void backward_weight(const HeadNormShape& s, const T* raw, const T* dqkv, Wide<T>* dq_gain, Wide<T>* dk_gain) {
  using W = Wide<T>;
  for_each_head(s, [&](int64_t h, int64_t packed, int64_t kept) {
    const T* x = raw + kept;
    const T* d = dqkv + packed;
    W* sum = h < s.heads ? dq_gain : dk_gain;
    const W inverse = inverse_rms(s, x);
    for_vectors<W>(s.head_dim, [&](int64_t i, auto access) {
      access.store(sum + i, access.load(sum + i) + access.load(d + i) * access.load(x + i) * inverse);
    });
  });
}

}  // namespace

void head_norm_forward(const HeadNormShape& s, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv, Tensor raw) {
  with_types(qkv.dtype, q_gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    forward<T, P>(s, as<P>(q_gain), as<P>(k_gain), as<T>(qkv), as<T>(raw));
  });
}

void head_norm_backward_input(const HeadNormShape& s, ConstTensor raw, ConstTensor q_gain, ConstTensor k_gain,
                              Tensor dqkv) {
  with_types(dqkv.dtype, q_gain.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    backward_input<T, P>(s, as<T>(raw), as<P>(q_gain), as<P>(k_gain), as<T>(dqkv));
  });
}

void head_norm_backward_weight(const HeadNormShape& s, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                               Tensor dk_gain) {
  with_type(dqkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    backward_weight<T>(s, as<T>(raw), as<T>(dqkv), as<Wide<T>>(dq_gain), as<Wide<T>>(dk_gain));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
