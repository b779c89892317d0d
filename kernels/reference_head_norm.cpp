#include <cmath>
#include <vector>

#include "kernels/reference.h"

namespace foretrain::kernels::reference {

namespace {

using std::int64_t;

// Calls f(row, head of q and k) for each.
template <class F>
void for_each_head(const HeadNormShape& s, F f) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      f(r, h);
    }
  }
}

template <class T>
T inverse_rms(const HeadNormShape& s, const T* x) {
  T squares = 0;
  for (int64_t i = 0; i < s.head_dim; ++i) {
    squares += x[i] * x[i];
  }
  return T{1} / std::sqrt(squares / static_cast<T>(s.head_dim) + static_cast<T>(s.epsilon));
}

}  // namespace

template <class T>
void head_norm_forward(const HeadNormShape& s, const T* q_gain, const T* k_gain, T* qkv, T* raw) {
  for_each_head(s, [&](int64_t r, int64_t h) {
    T* x = qkv + r * s.qkv_cols() + h * s.head_dim;
    const T* gain = h < s.heads ? q_gain : k_gain;
    const T inverse = inverse_rms(s, x);
    for (int64_t i = 0; i < s.head_dim; ++i) {
      raw[r * s.raw_cols() + h * s.head_dim + i] = x[i];
      x[i] = x[i] * inverse * gain[i];
    }
  });
}

template <class T>
void head_norm_backward_input(const HeadNormShape& s, const T* raw, const T* q_gain, const T* k_gain, T* dqkv) {
  for_each_head(s, [&](int64_t r, int64_t h) {
    const T* x = raw + r * s.raw_cols() + h * s.head_dim;
    T* d = dqkv + r * s.qkv_cols() + h * s.head_dim;
    const T* gain = h < s.heads ? q_gain : k_gain;
    const T inverse = inverse_rms(s, x);
    T mean = 0;
    for (int64_t i = 0; i < s.head_dim; ++i) {
      mean += d[i] * gain[i] * x[i] * inverse / static_cast<T>(s.head_dim);
    }
    for (int64_t i = 0; i < s.head_dim; ++i) {
      d[i] = inverse * (d[i] * gain[i] - mean * x[i] * inverse);
    }
  });
}

template <class T>
void head_norm_backward_weight(const HeadNormShape& s, const T* raw, const T* dqkv, T* dq_gain, T* dk_gain) {
  for_each_head(s, [&](int64_t r, int64_t h) {
    const T* x = raw + r * s.raw_cols() + h * s.head_dim;
    const T* d = dqkv + r * s.qkv_cols() + h * s.head_dim;
    T* sum = h < s.heads ? dq_gain : dk_gain;
    const T inverse = inverse_rms(s, x);
    for (int64_t i = 0; i < s.head_dim; ++i) {
      sum[i] += d[i] * x[i] * inverse;
    }
  });
}

#define FORETRAIN_INSTANTIATE(T)                                                                  \
  template void head_norm_forward(const HeadNormShape&, const T*, const T*, T*, T*);              \
  template void head_norm_backward_input(const HeadNormShape&, const T*, const T*, const T*, T*); \
  template void head_norm_backward_weight(const HeadNormShape&, const T*, const T*, T*, T*);
FORETRAIN_INSTANTIATE(float)
FORETRAIN_INSTANTIATE(double)
#undef FORETRAIN_INSTANTIATE

}  // namespace foretrain::kernels::reference
