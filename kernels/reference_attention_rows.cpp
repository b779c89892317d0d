#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference.h"

namespace foretrain::kernels::reference {

namespace {

using std::int64_t;

// A query of a head: its first elements in q and o, its row of lse, how many keys it sees, the first key's row, its
// heads, and its place in the sequence.
struct Query {
  int64_t q, o, lse, visible, key_row, head, kv_head, token;
};
template <class F>
void for_each_query(const AttentionShape& s, const AttentionRows& rows, F f) {
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.seq; ++i) {
        const int64_t token = b * s.seq + i;
        f(Query{token * rows.ld_q + h * s.head_dim, token * s.out_cols() + h * s.v_dim(), (b * s.heads + h) * s.seq + i,
                s.causal ? i + 1 : rows.key_seq, b * rows.key_seq, h, h / (s.heads / s.kv_heads), i});
      }
    }
  }
}

template <class T>
T score(const AttentionShape& s, const AttentionRows& rows, const Query& x, const T* q, const T* kv, const T* bias,
        int64_t key) {
  const T* const k = kv + (x.key_row + key) * rows.ld_kv + x.kv_head * s.head_dim;
  T sum = 0;
  for (int64_t d = 0; d < s.head_dim; ++d) {
    sum += q[x.q + d] * k[d];
  }
  sum *= static_cast<T>(s.scale != 0.0 ? s.scale : 1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  return bias == nullptr ? sum : sum + bias[x.head * (s.seq + rows.key_seq - 1) + key - x.token + s.seq - 1];
}

}  // namespace

template <class T>
void attention_rows_forward(const AttentionShape& s, const AttentionRows& rows, const T* q, const T* kv, const T* bias,
                            T* o, T* lse) {
  for_each_query(s, rows, [&](const Query& x) {
    T maximum = -std::numeric_limits<T>::infinity(), sum = 0;
    for (int64_t j = 0; j < x.visible; ++j) {
      maximum = std::max(maximum, score(s, rows, x, q, kv, bias, j));
    }
    for (int64_t j = 0; j < x.visible; ++j) {
      sum += std::exp(score(s, rows, x, q, kv, bias, j) - maximum);
    }
    lse[x.lse] = maximum + std::log(sum);
    for (int64_t d = 0; d < s.v_dim(); ++d) {
      o[x.o + d] = 0;
      for (int64_t j = 0; j < x.visible; ++j) {
        o[x.o + d] += std::exp(score(s, rows, x, q, kv, bias, j) - lse[x.lse]) *
                      kv[(x.key_row + j) * rows.ld_kv + s.kv_heads * s.head_dim + x.kv_head * s.v_dim() + d];
      }
    }
  });
}

template <class T>
void attention_rows_backward(const AttentionShape& s, const AttentionRows& rows, const T* q, const T* kv, const T* bias,
                             const T* o, const T* lse, const T* d_o, T* dq, T* dkv, T* d_bias) {
  const T scale = static_cast<T>(s.scale != 0.0 ? s.scale : 1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  for (int64_t row = 0; row < s.batch * rows.key_seq; ++row) {
    for (int64_t c = 0; c < s.kv_cols(); ++c) {
      dkv[row * rows.ld_kv + c] = 0;
    }
  }
  for_each_query(s, rows, [&](const Query& x) {
    T d = 0;
    for (int64_t i = 0; i < s.v_dim(); ++i) {
      d += o[x.o + i] * d_o[x.o + i];
    }
    for (int64_t i = 0; i < s.head_dim; ++i) {
      dq[x.q + i] = 0;
    }
    for (int64_t j = 0; j < x.visible; ++j) {
      const int64_t k = (x.key_row + j) * rows.ld_kv + x.kv_head * s.head_dim;
      const int64_t v = (x.key_row + j) * rows.ld_kv + s.kv_heads * s.head_dim + x.kv_head * s.v_dim();
      const T p = std::exp(score(s, rows, x, q, kv, bias, j) - lse[x.lse]);
      T dp = 0;
      for (int64_t i = 0; i < s.v_dim(); ++i) {
        dp += d_o[x.o + i] * kv[v + i];
        dkv[v + i] += p * d_o[x.o + i];
      }
      const T ds = p * (dp - d);
      if (d_bias != nullptr) {
        d_bias[x.head * (s.seq + rows.key_seq - 1) + j - x.token + s.seq - 1] += ds;
      }
      for (int64_t i = 0; i < s.head_dim; ++i) {
        dq[x.q + i] += ds * scale * kv[k + i];
        dkv[k + i] += ds * scale * q[x.q + i];
      }
    }
  });
}

#define INSTANTIATE(T)                                                                                                \
  template void attention_rows_forward(const AttentionShape&, const AttentionRows&, const T*, const T*, const T*, T*, \
                                       T*);                                                                           \
  template void attention_rows_backward(const AttentionShape&, const AttentionRows&, const T*, const T*, const T*,    \
                                        const T*, const T*, const T*, T*, T*, T*)
INSTANTIATE(float);
INSTANTIATE(double);
#undef INSTANTIATE

}  // namespace foretrain::kernels::reference
