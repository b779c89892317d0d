// Attention over parts of the keys put together, and attention sinks: a warp for each query and head.
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarpsOfBlock = kThreads / kWarp;

// Rows of lse [batch, heads, seq], and where their heads stand in o.
struct Rows {
  std::int64_t count, heads, seq, v_dim;

  explicit Rows(const AttentionShape& s)
      : count(s.batch * s.heads * s.seq), heads(s.heads), seq(s.seq), v_dim(s.v_dim()) {}
  unsigned blocks() const { return static_cast<unsigned>(ceil_div(count, std::int64_t{kWarpsOfBlock})); }
  __device__ std::int64_t out(std::int64_t row) const {
    const std::int64_t token = row / (heads * seq) * seq + row % seq;
    return (token * heads + row / seq % heads) * v_dim;
  }
};

__device__ std::int64_t row_of_warp() {
  return std::int64_t{blockIdx.x} * kWarpsOfBlock + threadIdx.x / kWarp;
}
__device__ std::int64_t lane() {
  return threadIdx.x % kWarp;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    merge_kernel(Rows rows, std::int64_t parts, const T* o_parts, const Wide<T>* lse_parts, T* o, Wide<T>* lse) {
  using W = Wide<T>;
  const std::int64_t row = row_of_warp();
  if (row >= rows.count) {
    return;
  }
  const W lowest = -static_cast<W>(INFINITY);
  W maximum = lowest, total = 0;
  for (std::int64_t p = 0; p < parts; ++p) {
    const W x = lse_parts[p * rows.count + row];
    maximum = x > maximum ? x : maximum;
  }
  const auto weight = [&](std::int64_t p) {
    const W x = lse_parts[p * rows.count + row];
    return x == lowest ? W{0} : std::exp(x - maximum);
  };
  for (std::int64_t p = 0; p < parts; ++p) {
    total += weight(p);
  }
  if (lane() == 0) {
    lse[row] = total == 0 ? lowest : maximum + std::log(total);
  }
  const std::int64_t at = rows.out(row);
  for (std::int64_t c = lane(); c < rows.v_dim; c += kWarp) {
    W sum = 0;
    for (std::int64_t p = 0; p < parts; ++p) {
      const W w = weight(p);
      if (w != 0) {  // else the row may never have been written
        sum += w / total * widen(o_parts[p * rows.count * rows.v_dim + at + c]);
      }
    }
    o[at + c] = narrow<T>(sum);
  }
}

// log(exp(lse) + exp(sink)) = larger + log(1 + exp(-distance)): both may be far from 0.
template <class T, class P>
__global__ void __launch_bounds__(kThreads) sinks_forward_kernel(Rows rows, const P* sinks, T* o, Wide<T>* lse) {
  using W = Wide<T>;
  const std::int64_t row = row_of_warp();
  if (row >= rows.count) {
    return;
  }
  const W sink = widen(sinks[row / rows.seq % rows.heads]), old = lse[row];
  const W larger = old > sink ? old : sink, smaller = old > sink ? sink : old;
  const W with_sink = larger + std::log1p(std::exp(smaller - larger));
  const W factor = std::exp(old - with_sink);
  const std::int64_t at = rows.out(row);
  for (std::int64_t c = lane(); c < rows.v_dim; c += kWarp) {
    o[at + c] = narrow<T>(widen(o[at + c]) * factor);
  }
  __syncwarp();
  if (lane() == 0) {
    lse[row] = with_sink;
  }
}

// A block per head. A warp takes every eighth row; a lane sums its columns of them, and the lanes are summed at the
// end.
constexpr unsigned kThreadsOfHead = 256;

template <class T, class P>
__global__ void __launch_bounds__(kThreadsOfHead)
    sinks_backward_kernel(Rows rows, const P* sinks, const T* o, const Wide<T>* lse, const T* d_o, Wide<T>* d_sinks) {
  using W = Wide<T>;
  constexpr unsigned kWarps = kThreadsOfHead / kWarp;
  __shared__ W sums[kWarps];
  const std::int64_t head = blockIdx.x;
  const W sink = widen(sinks[head]);
  W sum = 0;
  for (std::int64_t i = threadIdx.x / kWarp; i < rows.count / rows.heads; i += kWarps) {
    const std::int64_t row = (i / rows.seq * rows.heads + head) * rows.seq + i % rows.seq;
    const std::int64_t at = rows.out(row);
    W dot = 0;
    for (std::int64_t c = lane(); c < rows.v_dim; c += kWarp) {
      dot += widen(o[at + c]) * widen(d_o[at + c]);
    }
    sum += std::exp(sink - lse[row]) * dot;
  }
  for (unsigned offset = kWarp / 2; offset > 0; offset /= 2) {
    sum += shuffle_xor(sum, offset);
  }
  if (lane() == 0) {
    sums[threadIdx.x / kWarp] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned w = 1; w < kWarps; ++w) {
      sum += sums[w];
    }
    d_sinks[head] -= sum;
  }
}

}  // namespace

void attention_merge(const Stream& stream, const AttentionShape& s, std::int64_t parts, ConstTensor o_parts,
                     ConstTensor lse_parts, Tensor o, Tensor lse) {
  arguments::attention_merge(s, parts, o_parts, lse_parts, o, lse);
  with_type(o.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Rows rows(s);
    launch(&merge_kernel<T>, {rows.blocks()}, {kThreads}, stream, rows, parts, as<T>(o_parts), as<Wide<T>>(lse_parts),
           as<T>(o), as<Wide<T>>(lse));
  });
}

void attention_sinks_forward(const Stream& stream, const AttentionShape& s, ConstTensor sinks, Tensor o, Tensor lse) {
  arguments::attention_sinks_forward(s, sinks, o, lse);
  with_types(o.dtype, sinks.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    const Rows rows(s);
    launch(&sinks_forward_kernel<T, P>, {rows.blocks()}, {kThreads}, stream, rows, as<P>(sinks), as<T>(o),
           as<Wide<T>>(lse));
  });
}

void attention_sinks_backward(const Stream& stream, const AttentionShape& s, ConstTensor sinks, ConstTensor o,
                              ConstTensor lse, ConstTensor d_o, Tensor d_sinks) {
  arguments::attention_sinks_backward(s, sinks, o, lse, d_o, d_sinks);
  with_types(o.dtype, sinks.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    launch(&sinks_backward_kernel<T, P>, {static_cast<unsigned>(s.heads)}, {kThreadsOfHead}, stream, Rows(s),
           as<P>(sinks), as<T>(o), as<Wide<T>>(lse), as<T>(d_o), as<Wide<T>>(d_sinks));
  });
}

}  // namespace foretrain::kernels::cuda
