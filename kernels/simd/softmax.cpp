// The row operations of unfused attention. A row of scores is [seq]; with causal only its first row + 1 columns count,
// with a window only the last so many of these, with documents those of its own.
#include "kernels/simd/attention_shape.h"
#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// Columns [begin, begin + n) of the row from `row` on count.
struct Counted {
  int64_t row, begin, n;

  int64_t first() const { return row + begin; }
};

// Calls f(what counts) for every row: all of it without mask.
template <class F>
FORETRAIN_INLINE void for_rows(const AttentionShape& s, bool mask, F f) {
  for (int64_t r = 0; r < s.batch * s.heads * s.seq; ++r) {
    const int64_t end = mask ? r % s.seq + 1 : s.seq;
    const int64_t window = mask && s.window > 0 && end > s.window ? end - s.window : 0;
    const int64_t document = mask && s.document > 0 ? (end - 1) / s.document * s.document : 0;
    const int64_t begin = window > document ? window : document;
    f(Counted{r * s.seq, begin, end - begin});
  }
}

// The columns of a row that do not count.
template <class T>
void fill_rest(T* x, const Counted& counted, int64_t seq, Wide<T> value) {
  const auto fill = [&](int64_t from, int64_t to) {
    for_vectors<Wide<T>>(to - from,
                         [&](int64_t i, auto access) { access.store(x + counted.row + from + i, broadcast(value)); });
  };
  fill(0, counted.begin);
  fill(counted.begin + counted.n, seq);
}

template <class T>
Wide<T> row_maximum(const T* x, int64_t n) {
  using W = Wide<T>;
  constexpr int64_t lanes = kLanes<T>;
  const W lowest = -static_cast<W>(__builtin_inf());
  Vec<W> m0 = broadcast(lowest), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    m0 = max(load(x + i), m0);
    m1 = max(load(x + i + lanes), m1);
  }
  for (; i + lanes <= n; i += lanes) {
    m0 = max(load(x + i), m0);
  }
  if (i < n) {
    m0 = max(load_partial(x + i, n - i, lowest), m0);
  }
  return horizontal_max(max(m0, m1));
}

// p = softmax(scale s) over the columns that count, 0 elsewhere. scale > 0.
template <class S, class P>
void softmax(const AttentionShape& shape, bool mask, double scale, const S* s, P* p) {
  using W = Wide<S>;
  const W factor = static_cast<W>(scale);
  for_rows(shape, mask, [&](const Counted& counted) {
    const int64_t row = counted.first(), n = counted.n;
    const W maximum = row_maximum(s + row, n) * factor;
    const W sum = sum_vectors<W>(
        n, [&](int64_t i, auto access) { return access.only(exp(access.load(s + row + i) * factor - maximum)); });
    const W inverse = 1 / sum;
    for_vectors<W>(n, [&](int64_t i, auto access) {
      access.store(p + row + i, exp(access.load(s + row + i) * factor - maximum) * inverse);
    });
    fill_rest(p, counted, shape.seq, 0);
  });
}

// ds = scale p (dp - sum p dp) over the columns that count, 0 elsewhere.
template <class P, class D>
void softmax_backward(const AttentionShape& shape, bool mask, double scale, const P* p, const D* dp, D* ds) {
  using W = Wide<P>;
  const W factor = static_cast<W>(scale);
  for_rows(shape, mask, [&](const Counted& counted) {
    const int64_t row = counted.first(), n = counted.n;
    const W sum =
        sum_vectors<W>(n, [&](int64_t i, auto access) { return access.load(p + row + i) * access.load(dp + row + i); });
    for_vectors<W>(n, [&](int64_t i, auto access) {
      access.store(ds + row + i, access.load(p + row + i) * (access.load(dp + row + i) - sum) * factor);
    });
    fill_rest(ds, counted, shape.seq, 0);
  });
}

template <class T>
void scale_mask(const AttentionShape& shape, T* s, Wide<T> masked) {
  using W = Wide<T>;
  const W factor = static_cast<W>(softmax_scale(shape));
  for_rows(shape, shape.causal, [&](const Counted& counted) {
    const int64_t row = counted.first();
    for_vectors<W>(counted.n,
                   [&](int64_t i, auto access) { access.store(s + row + i, access.load(s + row + i) * factor); });
    fill_rest(s, counted, shape.seq, masked);
  });
}

// Calls f with two stored types of one arithmetic type.
template <class F>
FORETRAIN_INLINE void with_two(Dtype a, Dtype b, F f) {
  if (a == Dtype::fp64) {
    f(Type<double>{}, Type<double>{});
    return;
  }
  with_stored<float>(a, [&](auto ta) { with_stored<float>(b, [&](auto tb) { f(ta, tb); }); });
}

void softmax_forward(const AttentionShape& shape, bool mask, double scale, ConstTensor s, Tensor p) {
  with_two(s.dtype, p.dtype, [&](auto ts, auto tp) {
    softmax(shape, mask, scale, as<typename decltype(ts)::type>(s), as<typename decltype(tp)::type>(p));
  });
}

void softmax_gradient(const AttentionShape& shape, bool mask, double scale, ConstTensor p, ConstTensor dp, Tensor ds) {
  with_two(p.dtype, ds.dtype, [&](auto tp, auto td) {
    using D = typename decltype(td)::type;
    softmax_backward(shape, mask, scale, as<typename decltype(tp)::type>(p), as<D>(dp), as<D>(ds));
  });
}

}  // namespace

void attention_scale_mask(const AttentionShape& shape, Tensor s) {
  with_type(s.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    scale_mask(shape, as<T>(s), -static_cast<Wide<T>>(__builtin_inf()));
  });
}

void attention_scale_mask_backward(const AttentionShape& shape, Tensor ds) {
  with_type(ds.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    scale_mask(shape, as<T>(ds), 0);
  });
}

void attention_softmax(const AttentionShape& shape, ConstTensor s, Tensor p) {
  softmax_forward(shape, false, 1.0, s, p);
}

void attention_scale_mask_softmax(const AttentionShape& shape, ConstTensor s, Tensor p) {
  softmax_forward(shape, shape.causal, softmax_scale(shape), s, p);
}

void attention_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp, Tensor ds) {
  softmax_gradient(shape, false, 1.0, p, dp, ds);
}

void attention_scale_mask_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp, Tensor ds) {
  softmax_gradient(shape, shape.causal, softmax_scale(shape), p, dp, ds);
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
