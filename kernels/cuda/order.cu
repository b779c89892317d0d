#include "kernels/cuda/order.h"

namespace foretrain::kernels::cuda {

namespace {

// The sum of x over the lanes before this one.
__device__ int32_t sum_before(int32_t x) {
  int32_t sum = x;
  for (unsigned offset = 1; offset < kWarp; offset *= 2) {
    const int32_t other = shuffle(sum, lane() < offset ? lane() : lane() - offset);
    sum += lane() < offset ? 0 : other;
  }
  return sum - x;
}

// A warp replaces values by the sum of those before; gives the sum of all.
template <class Value, class Put>
__device__ int32_t sums_before(int64_t n, Value value, Put put) {
  const int64_t each = ceil_div(n, int64_t{kWarp});
  const int64_t first = lane() * each, past = first + each < n ? first + each : n;
  int32_t own = 0;
  for (int64_t i = first; i < past; ++i) {
    own += value(i);
  }
  int32_t sum = sum_before(own);
  const int32_t all = over_warp(Sum{}, own);
  for (int64_t i = first; i < past; ++i) {
    const int32_t x = value(i);
    put(i, sum);
    sum += x;
  }
  return all;
}

// A block of one warp for each key; `totals` receives how many have it.
__global__ void sum_chunks(KeyCounts counts, int32_t* totals) {
  int32_t* const own = counts.of_chunk + blockIdx.x * counts.chunks;
  const int32_t all = sums_before(
      counts.chunks, [=](int64_t i) { return own[i]; }, [=](int64_t i, int32_t sum) { own[i] = sum; });
  if (lane() == 0) {
    totals[blockIdx.x] = all;
  }
}

// One warp. Totals are cut at `capacity`, unless it is 0; they may be `begin` itself.
__global__ void begin_keys(int32_t keys, int64_t capacity, int32_t* totals, int32_t* begin) {
  const auto cut = [=](int64_t k) {
    return capacity > 0 && totals[k] > capacity ? static_cast<int32_t>(capacity) : totals[k];
  };
  sums_before(keys, cut, [=](int64_t k, int32_t sum) {
    if (totals != begin) {
      totals[k] = cut(k);
    }
    begin[k] = sum;
  });
}

}  // namespace

void sum_counts(const Stream& stream, int64_t keys, int64_t capacity, KeyCounts counts, int32_t* totals) {
  int32_t* const sums = totals != nullptr ? totals : counts.begin;
  launch(sum_chunks, {static_cast<unsigned>(keys)}, {kWarp}, stream, counts, sums);
  launch(begin_keys, {1}, {kWarp}, stream, static_cast<int32_t>(keys), capacity, sums, counts.begin);
}

}  // namespace foretrain::kernels::cuda
