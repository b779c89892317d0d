// Logits by distance from a table of buckets. The distances of a bucket on one side are neighbours: where they begin is
// computed on the host, by the CPU's logarithm, and a warp takes a head's bucket.
#include <algorithm>

#include "kernels/arguments.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

// Numbers of a launch, and how many tokens from a query each bucket of a side begins; behind the last one's all.
struct Buckets {
  int seq, heads, of_side, used, in_table, distances;
  bool bidirectional;
  int first[kMostBuckets + 1];
};

Buckets buckets_of(const RelativeBiasShape& s) {
  const std::int64_t of_side = s.bidirectional ? s.buckets / 2 : s.buckets, most = std::max(s.seq, s.key_seq);
  check_most("relative_bias", "buckets", of_side, kMostBuckets);
  Buckets b{as_int("relative_bias", s.seq),
            as_int("relative_bias", s.heads),
            static_cast<int>(of_side),
            static_cast<int>(s.bidirectional ? 2 * of_side : of_side),
            as_int("relative_bias", s.buckets),
            as_int("relative_bias", s.distances()),
            s.bidirectional,
            {}};
  for (std::int64_t bucket = 0; bucket <= of_side; ++bucket) {
    std::int64_t low = 0, high = most;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      relative_bucket(s, -middle) >= bucket ? high = middle : low = middle + 1;
    }
    b.first[bucket] = static_cast<int>(low);
  }
  return b;
}

// A warp's head and bucket, and the bucket's distances, the first of all being that of the last query and first key.
struct Share {
  int head, bucket, first, past;
};

__device__ Share share_of(const Buckets& b, int at) {
  const int bucket = at % b.used, in_side = bucket % b.of_side, own = b.seq - 1;
  const int near = b.first[in_side], far = b.first[in_side + 1];
  Share share{at / b.used, bucket, own + 1 - far, own + 1 - near};
  if (bucket >= b.of_side) {  // of keys behind the query
    share.first = own + (near > 0 ? near : 1);
    share.past = own + far;
  } else if (bucket == 0 && !b.bidirectional) {
    share.past = b.distances;
  }
  share.first = share.first > 0 ? share.first : 0;
  share.past = share.past < b.distances ? share.past : b.distances;
  return share;
}

__device__ int warp_of_launch() {
  return static_cast<int>(blockIdx.x * kWarps + warp());
}

template <class T, class W>
__global__ void __launch_bounds__(kThreads) forward_kernel(Buckets b, const T* table, W* bias) {
  if (warp_of_launch() >= b.heads * b.used) {
    return;
  }
  const Share share = share_of(b, warp_of_launch());
  const W value = widen(table[int64_t{share.head} * b.in_table + share.bucket]);
  for (int i = share.first + static_cast<int>(lane()); i < share.past; i += static_cast<int>(kWarp)) {
    bias[int64_t{share.head} * b.distances + i] = value;
  }
}

template <class W>
__global__ void __launch_bounds__(kThreads) backward_kernel(Buckets b, const W* d_bias, W* d_table) {
  if (warp_of_launch() >= b.heads * b.used) {
    return;
  }
  const Share share = share_of(b, warp_of_launch());
  W sum = 0;
  for (int i = share.first + static_cast<int>(lane()); i < share.past; i += static_cast<int>(kWarp)) {
    sum += d_bias[int64_t{share.head} * b.distances + i];
  }
  sum = over_warp(Sum{}, sum);
  if (lane() == 0) {
    d_table[int64_t{share.head} * b.in_table + share.bucket] += sum;
  }
}

Extent grid_of(const Buckets& b) {
  return {blocks_of(int64_t{b.heads} * b.used, kWarps)};
}

}  // namespace

void relative_bias_forward(const Stream& stream, const RelativeBiasShape& s, ConstTensor table, Tensor bias) {
  arguments::relative_bias_forward(s, table, bias);
  const Buckets b = buckets_of(s);
  with_type(table.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(&forward_kernel<T, Wide<T>>, grid_of(b), {kThreads}, stream, b, as<T>(table), as<Wide<T>>(bias));
  });
}

void relative_bias_backward(const Stream& stream, const RelativeBiasShape& s, ConstTensor d_bias, Tensor d_table) {
  arguments::relative_bias_backward(s, d_bias, d_table);
  const Buckets b = buckets_of(s);
  const auto run = [&](auto w) {
    using W = decltype(w);
    launch(&backward_kernel<W>, grid_of(b), {kThreads}, stream, b, as<W>(d_bias), as<W>(d_table));
  };
  d_bias.dtype == Dtype::fp64 ? run(double{}) : run(float{});
}

}  // namespace foretrain::kernels::cuda
