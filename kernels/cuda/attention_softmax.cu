// The row operations of unfused attention: a warp for each row of scores, [seq].
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_view.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarpsOfBlock = kThreads / kWarp;

// Rows [batch, heads, seq], of which the columns that the row's query sees count.
struct ScoreRows {
  std::int64_t count;
  int seq;
  Sight sight;
  double scale;

  unsigned blocks() const { return static_cast<unsigned>(ceil_div(count, std::int64_t{kWarpsOfBlock})); }
  __device__ Range counted(std::int64_t row) const { return sight.of_query(static_cast<int>(row % seq)); }
};

ScoreRows rows_of(const AttentionShape& shape) {
  const Heads heads = heads_of(shape);
  return {shape.batch * shape.heads * shape.seq, heads.seq, sight_of(shape), heads.scale};
}

// All columns, as they are.
ScoreRows whole_rows_of(AttentionShape shape) {
  shape.causal = false;
  shape.window = shape.document = 0;
  ScoreRows rows = rows_of(shape);
  rows.scale = 1.0;
  return rows;
}

__device__ std::int64_t row_of_warp() {
  return std::int64_t{blockIdx.x} * kWarpsOfBlock + threadIdx.x / kWarp;
}
__device__ int lane() {
  return static_cast<int>(threadIdx.x % kWarp);
}

template <class W, class F>
__device__ W over_warp(W x, F f) {
  for (unsigned offset = kWarp / 2; offset > 0; offset /= 2) {
    x = f(x, shuffle_xor(x, offset));
  }
  return x;
}
template <class W>
__device__ W sum_over_warp(W x) {
  return over_warp(x, [](W a, W b) { return a + b; });
}

// x[column] = value(column) where it counts, else rest.
template <class T, class F>
__device__ void write_row(T* x, int seq, Range counted, Wide<T> rest, F value) {
  for (int c = lane(); c < seq; c += static_cast<int>(kWarp)) {
    x[c] = narrow<T>(c >= counted.first && c < counted.past ? value(c) : rest);
  }
}

template <class S, class P>
__global__ void __launch_bounds__(kThreads) softmax_kernel(ScoreRows rows, const S* scores, P* p) {
  using W = Wide<S>;
  const std::int64_t row = row_of_warp();
  if (row >= rows.count) {
    return;
  }
  const S* const s = scores + row * rows.seq;
  const Range counted = rows.counted(row);
  const W scale = static_cast<W>(rows.scale);
  W maximum = -static_cast<W>(INFINITY), sum = 0;
  for (int c = counted.first + lane(); c < counted.past; c += static_cast<int>(kWarp)) {
    maximum = widen(s[c]) * scale > maximum ? widen(s[c]) * scale : maximum;
  }
  maximum = over_warp(maximum, [](W a, W b) { return a > b ? a : b; });
  for (int c = counted.first + lane(); c < counted.past; c += static_cast<int>(kWarp)) {
    sum += std::exp(widen(s[c]) * scale - maximum);
  }
  const W inverse = 1 / sum_over_warp(sum);
  write_row(p + row * rows.seq, rows.seq, counted, W{0},
            [&](int c) { return std::exp(widen(s[c]) * scale - maximum) * inverse; });
}

template <class P, class D>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(ScoreRows rows, const P* weights, const D* gradients, D* result) {
  using W = Wide<P>;
  const std::int64_t row = row_of_warp();
  if (row >= rows.count) {
    return;
  }
  const P* const p = weights + row * rows.seq;
  const D* const dp = gradients + row * rows.seq;
  const Range counted = rows.counted(row);
  const W scale = static_cast<W>(rows.scale);
  W sum = 0;
  for (int c = counted.first + lane(); c < counted.past; c += static_cast<int>(kWarp)) {
    sum += widen(p[c]) * widen(dp[c]);
  }
  sum = sum_over_warp(sum);
  write_row(result + row * rows.seq, rows.seq, counted, W{0},
            [&](int c) { return widen(p[c]) * (widen(dp[c]) - sum) * scale; });
}

template <class T>
__global__ void __launch_bounds__(kThreads) scale_mask_kernel(ScoreRows rows, Wide<T> masked, T* x) {
  const std::int64_t row = row_of_warp();
  if (row >= rows.count) {
    return;
  }
  T* const s = x + row * rows.seq;
  write_row(s, rows.seq, rows.counted(row), masked,
            [&](int c) { return widen(s[c]) * static_cast<Wide<T>>(rows.scale); });
}

void scale_mask(const Stream& stream, const AttentionShape& shape, Tensor x, double masked) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const ScoreRows rows = rows_of(shape);
    launch(&scale_mask_kernel<T>, {rows.blocks()}, {kThreads}, stream, rows, static_cast<Wide<T>>(masked), as<T>(x));
  });
}

void softmax(const Stream& stream, const ScoreRows& rows, ConstTensor s, Tensor p) {
  with_types(s.dtype, p.dtype, [&](auto ts, auto tp) {
    using S = typename decltype(ts)::type;
    using P = typename decltype(tp)::type;
    launch(&softmax_kernel<S, P>, {rows.blocks()}, {kThreads}, stream, rows, as<S>(s), as<P>(p));
  });
}

void softmax_backward(const Stream& stream, const ScoreRows& rows, ConstTensor p, ConstTensor dp, Tensor ds) {
  with_types(p.dtype, ds.dtype, [&](auto tp, auto td) {
    using P = typename decltype(tp)::type;
    using D = typename decltype(td)::type;
    launch(&softmax_backward_kernel<P, D>, {rows.blocks()}, {kThreads}, stream, rows, as<P>(p), as<D>(dp), as<D>(ds));
  });
}

}  // namespace

void attention_scale_mask(const Stream& stream, const AttentionShape& shape, Tensor s) {
  arguments::attention_scale_mask(shape, s);
  scale_mask(stream, shape, s, -INFINITY);
}

void attention_scale_mask_backward(const Stream& stream, const AttentionShape& shape, Tensor ds) {
  arguments::attention_scale_mask_backward(shape, ds);
  scale_mask(stream, shape, ds, 0.0);
}

void attention_softmax(const Stream& stream, const AttentionShape& shape, ConstTensor s, Tensor p) {
  arguments::attention_softmax(shape, s, p);
  softmax(stream, whole_rows_of(shape), s, p);
}

void attention_scale_mask_softmax(const Stream& stream, const AttentionShape& shape, ConstTensor s, Tensor p) {
  arguments::attention_scale_mask_softmax(shape, s, p);
  softmax(stream, rows_of(shape), s, p);
}

void attention_softmax_backward(const Stream& stream, const AttentionShape& shape, ConstTensor p, ConstTensor dp,
                                Tensor ds) {
  arguments::attention_softmax_backward(shape, p, dp, ds);
  softmax_backward(stream, whole_rows_of(shape), p, dp, ds);
}

void attention_scale_mask_softmax_backward(const Stream& stream, const AttentionShape& shape, ConstTensor p,
                                           ConstTensor dp, Tensor ds) {
  arguments::attention_scale_mask_softmax_backward(shape, p, dp, ds);
  softmax_backward(stream, rows_of(shape), p, dp, ds);
}

}  // namespace foretrain::kernels::cuda
