#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference.h"

namespace foretrain::kernels::reference {

namespace {

using std::int64_t;

// Column of the first element of a head within a packed row.
int64_t query_column(const AttentionShape& s, int64_t head) {
  return head * s.head_dim;
}
int64_t key_column(const AttentionShape& s, int64_t head) {
  return (s.heads + head / (s.heads / s.kv_heads)) * s.head_dim;
}
int64_t value_column(const AttentionShape& s, int64_t head) {
  return (s.heads + s.kv_heads) * s.head_dim + head / (s.heads / s.kv_heads) * s.v_dim();
}

// Does query i see key j?
bool is_visible(const AttentionShape& s, int64_t i, int64_t j) {
  return !s.causal ||
         (j <= i && (s.window == 0 || i - j < s.window) && (s.document == 0 || i / s.document == j / s.document));
}

double scale(const AttentionShape& s) {
  return s.scale != 0.0 ? s.scale : 1.0 / std::sqrt(static_cast<double>(s.head_dim));
}

// Calls f(b, h, i, j, index of (b, h, i, j) in [batch, heads, seq, seq]).
template <class F>
void for_each_score(const AttentionShape& s, F f) {
  int64_t index = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.seq; ++i) {
        for (int64_t j = 0; j < s.seq; ++j) {
          f(b, h, i, j, index++);
        }
      }
    }
  }
}

template <class T>
void rotate(const AttentionShape& s, int64_t rotary_dim, const RotaryFrequencies& frequencies, int64_t position_offset,
            double direction, T* qkv) {
  const int64_t half = rotary_dim / 2;
  for (int64_t t = 0; t < s.tokens(); ++t) {
    const double position = static_cast<double>(position_offset + t % s.seq);
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      T* x = qkv + t * s.qkv_cols() + h * s.head_dim;
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            position * frequencies.scaled(
                           std::pow(frequencies.base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim)));
        const T c = static_cast<T>(std::cos(angle));
        const T n = static_cast<T>(direction * std::sin(angle));
        const T low = x[i];
        const T high = x[i + half];
        x[i] = low * c - high * n;
        x[i + half] = high * c + low * n;
      }
    }
  }
}

}  // namespace

template <class T>
void rotary_forward(const AttentionShape& s, int64_t rotary_dim, const RotaryFrequencies& frequencies,
                    int64_t position_offset, T* qkv) {
  rotate(s, rotary_dim, frequencies, position_offset, 1.0, qkv);
}

template <class T>
void rotary_backward(const AttentionShape& s, int64_t rotary_dim, const RotaryFrequencies& frequencies,
                     int64_t position_offset, T* dqkv) {
  rotate(s, rotary_dim, frequencies, position_offset, -1.0, dqkv);
}

template <class T>
void attention_scores(const AttentionShape& s, const T* qkv, T* scores) {
  for_each_score(s, [&](int64_t b, int64_t h, int64_t i, int64_t j, int64_t index) {
    const T* q = qkv + (b * s.seq + i) * s.qkv_cols() + query_column(s, h);
    const T* k = qkv + (b * s.seq + j) * s.qkv_cols() + key_column(s, h);
    T sum = 0;
    for (int64_t d = 0; d < s.head_dim; ++d) {
      sum += q[d] * k[d];
    }
    scores[index] = sum;
  });
}

template <class T>
void attention_scale_mask(const AttentionShape& s, T* scores) {
  for_each_score(s, [&](int64_t, int64_t, int64_t i, int64_t j, int64_t index) {
    scores[index] =
        is_visible(s, i, j) ? scores[index] * static_cast<T>(scale(s)) : -std::numeric_limits<T>::infinity();
  });
}

template <class T>
void attention_softmax(const AttentionShape& s, const T* scores, T* p) {
  for (int64_t row = 0; row < s.batch * s.heads * s.seq; ++row) {
    const T* in = scores + row * s.seq;
    T* out = p + row * s.seq;
    T maximum = -std::numeric_limits<T>::infinity();
    for (int64_t j = 0; j < s.seq; ++j) {
      maximum = std::max(maximum, in[j]);
    }
    T sum = 0;
    for (int64_t j = 0; j < s.seq; ++j) {
      sum += std::exp(in[j] - maximum);
    }
    for (int64_t j = 0; j < s.seq; ++j) {
      out[j] = std::exp(in[j] - maximum) / sum;
    }
  }
}

template <class T>
void attention_context(const AttentionShape& s, const T* p, const T* qkv, T* o) {
  for (int64_t i = 0; i < s.tokens() * s.out_cols(); ++i) {
    o[i] = 0;
  }
  for_each_score(s, [&](int64_t b, int64_t h, int64_t i, int64_t j, int64_t index) {
    const T* v = qkv + (b * s.seq + j) * s.qkv_cols() + value_column(s, h);
    T* out = o + (b * s.seq + i) * s.out_cols() + h * s.v_dim();
    for (int64_t d = 0; d < s.v_dim(); ++d) {
      out[d] += p[index] * v[d];
    }
  });
}

template <class T>
void attention_context_backward(const AttentionShape& s, const T* p, const T* qkv, const T* d_o, T* dp, T* dqkv) {
  for (int64_t t = 0; t < s.tokens(); ++t) {
    for (int64_t c = (s.heads + s.kv_heads) * s.head_dim; c < s.qkv_cols(); ++c) {
      dqkv[t * s.qkv_cols() + c] = 0;
    }
  }
  for_each_score(s, [&](int64_t b, int64_t h, int64_t i, int64_t j, int64_t index) {
    const int64_t value = (b * s.seq + j) * s.qkv_cols() + value_column(s, h);
    const T* out = d_o + (b * s.seq + i) * s.out_cols() + h * s.v_dim();
    T sum = 0;
    for (int64_t d = 0; d < s.v_dim(); ++d) {
      sum += out[d] * qkv[value + d];
      dqkv[value + d] += p[index] * out[d];
    }
    dp[index] = sum;
  });
}

template <class T>
void attention_softmax_backward(const AttentionShape& s, const T* p, const T* dp, T* ds) {
  for (int64_t row = 0; row < s.batch * s.heads * s.seq; ++row) {
    T sum = 0;
    for (int64_t j = 0; j < s.seq; ++j) {
      sum += p[row * s.seq + j] * dp[row * s.seq + j];
    }
    for (int64_t j = 0; j < s.seq; ++j) {
      ds[row * s.seq + j] = p[row * s.seq + j] * (dp[row * s.seq + j] - sum);
    }
  }
}

template <class T>
void attention_scale_mask_backward(const AttentionShape& s, T* ds) {
  for_each_score(s, [&](int64_t, int64_t, int64_t i, int64_t j, int64_t index) {
    ds[index] = is_visible(s, i, j) ? ds[index] * static_cast<T>(scale(s)) : T{0};
  });
}

template <class T>
void attention_scores_backward(const AttentionShape& s, const T* ds, const T* qkv, T* dqkv) {
  for (int64_t t = 0; t < s.tokens(); ++t) {
    for (int64_t c = 0; c < (s.heads + s.kv_heads) * s.head_dim; ++c) {
      dqkv[t * s.qkv_cols() + c] = 0;
    }
  }
  for_each_score(s, [&](int64_t b, int64_t h, int64_t i, int64_t j, int64_t index) {
    const int64_t query = (b * s.seq + i) * s.qkv_cols() + query_column(s, h);
    const int64_t key = (b * s.seq + j) * s.qkv_cols() + key_column(s, h);
    for (int64_t d = 0; d < s.head_dim; ++d) {
      dqkv[query + d] += ds[index] * qkv[key + d];
      dqkv[key + d] += ds[index] * qkv[query + d];
    }
  });
}

template <class T>
void attention_forward(const AttentionShape& s, const T* qkv, T* o, T* lse) {
  std::vector<T> p(static_cast<std::size_t>(s.score_elements()));
  attention_scores(s, qkv, p.data());
  attention_scale_mask(s, p.data());
  for (int64_t row = 0; row < s.batch * s.heads * s.seq; ++row) {
    T maximum = -std::numeric_limits<T>::infinity();
    for (int64_t j = 0; j < s.seq; ++j) {
      maximum = std::max(maximum, p[row * s.seq + j]);
    }
    T sum = 0;
    for (int64_t j = 0; j < s.seq; ++j) {
      sum += std::exp(p[row * s.seq + j] - maximum);
    }
    lse[row] = maximum + std::log(sum);
  }
  attention_softmax(s, p.data(), p.data());
  attention_context(s, p.data(), qkv, o);
}

template <class T>
void attention_backward(const AttentionShape& s, const T* qkv, const T* d_o, T* dqkv) {
  std::vector<T> p(static_cast<std::size_t>(s.score_elements()));
  std::vector<T> ds(p.size());
  attention_scores(s, qkv, p.data());
  attention_scale_mask(s, p.data());
  attention_softmax(s, p.data(), p.data());
  attention_context_backward(s, p.data(), qkv, d_o, ds.data(), dqkv);
  attention_softmax_backward(s, p.data(), ds.data(), ds.data());
  attention_scale_mask_backward(s, ds.data());
  attention_scores_backward(s, ds.data(), qkv, dqkv);
}

#define INSTANTIATE(T)                                                                                   \
  template void rotary_forward(const AttentionShape&, int64_t, const RotaryFrequencies&, int64_t, T*);   \
  template void rotary_backward(const AttentionShape&, int64_t, const RotaryFrequencies&, int64_t, T*);  \
  template void attention_scores(const AttentionShape&, const T*, T*);                                   \
  template void attention_scale_mask(const AttentionShape&, T*);                                         \
  template void attention_softmax(const AttentionShape&, const T*, T*);                                  \
  template void attention_context(const AttentionShape&, const T*, const T*, T*);                        \
  template void attention_context_backward(const AttentionShape&, const T*, const T*, const T*, T*, T*); \
  template void attention_softmax_backward(const AttentionShape&, const T*, const T*, T*);               \
  template void attention_scale_mask_backward(const AttentionShape&, T*);                                \
  template void attention_scores_backward(const AttentionShape&, const T*, const T*, T*);                \
  template void attention_forward(const AttentionShape&, const T*, T*, T*);                              \
  template void attention_backward(const AttentionShape&, const T*, const T*, T*)
INSTANTIATE(float);
INSTANTIATE(double);
#undef INSTANTIATE

}  // namespace foretrain::kernels::reference
