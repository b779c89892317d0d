// A logit per head beside those of the keys: what softmax without it gave, made smaller by the weight that the sink
// takes; torchtitan's gpt-oss does the same behind FlexAttention (output * sigmoid(lse - sink)).
#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// Calls f(head, index in lse, first element of the head in o) for every row, a head's rows one after the other.
template <class F>
void for_each_row(const AttentionShape& s, F f) {
  for (int64_t row = 0; row < s.batch * s.heads * s.seq; ++row) {
    const int64_t head = row / s.seq % s.heads;
    const int64_t token = row / (s.heads * s.seq) * s.seq + row % s.seq;
    f(head, row, token * s.out_cols() + head * s.v_dim());
  }
}

// log(exp(lse) + exp(sink)) = larger + log(1 + exp(-distance)): both may be far from 0.
template <class T, class P>
void forward(const AttentionShape& s, const P* sinks, T* o, Wide<T>* lse) {
  using W = Wide<T>;
  for_each_row(s, [&](int64_t head, int64_t row, int64_t at) {
    const W sink = static_cast<W>(sinks[head]), old = lse[row];
    const W larger = old > sink ? old : sink, smaller = old > sink ? sink : old;
    lse[row] = larger + std::log1p(std::exp(smaller - larger));
    const W factor = std::exp(old - lse[row]);
    for_vectors<W>(s.v_dim(),
                   [&](int64_t i, auto access) { access.store(o + at + i, access.load(o + at + i) * factor); });
  });
}

// d sink = p (0 - d) with its probability p and d = sum over the keys of p_j dp_j = d_o · o: no value hangs on it.
template <class T, class P>
void backward(const AttentionShape& s, const P* sinks, const T* o, const Wide<T>* lse, const T* d_o, Wide<T>* d_sinks) {
  using W = Wide<T>;
  for_each_row(s, [&](int64_t head, int64_t row, int64_t at) {
    const W d = sum_vectors<W>(
        s.v_dim(), [&](int64_t i, auto access) { return access.load(o + at + i) * access.load(d_o + at + i); });
    d_sinks[head] -= std::exp(static_cast<W>(sinks[head]) - lse[row]) * d;
  });
}

}  // namespace

void attention_sinks_forward(const AttentionShape& s, ConstTensor sinks, Tensor o, Tensor lse) {
  with_types(o.dtype, sinks.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    forward<T, P>(s, as<P>(sinks), as<T>(o), as<Wide<T>>(lse));
  });
}

void attention_sinks_backward(const AttentionShape& s, ConstTensor sinks, ConstTensor o, ConstTensor lse,
                              ConstTensor d_o, Tensor d_sinks) {
  with_types(o.dtype, sinks.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    backward<T, P>(s, as<P>(sinks), as<T>(o), as<Wide<T>>(lse), as<T>(d_o), as<Wide<T>>(d_sinks));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
