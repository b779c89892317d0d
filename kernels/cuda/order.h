// Stable counting: where each of n keys stands when they are sorted, equal ones as they were. By chunks: a chunk counts
// its keys, the counts are summed over the chunks, and each chunk walks its keys again. Within a chunk a thread has a
// key and walks all of them, so that no order is left to chance.
#pragma once

#include "kernels/cuda/block.h"

namespace foretrain::kernels::cuda {

using std::int32_t;

constexpr int64_t kChunk = 1024;  // keys

// The tables of one pass, in the workspace.
struct KeyCounts {
  int32_t* of_chunk;  // [keys, chunks]; then of the chunks before
  int32_t* begin;     // [keys]: of the smaller keys
  int64_t chunks;

  static constexpr int64_t elements(int64_t n, int64_t keys) { return keys * (ceil_div(n, kChunk) + 1); }
  static KeyCounts in(int32_t* memory, int64_t n, int64_t keys) {
    return {memory, memory + keys * ceil_div(n, kChunk), ceil_div(n, kChunk)};
  }
};

// Calls f(i, how many before i in the chunk have its key) for those of the chunk that have `key`; gives their number.
template <class F>
__device__ inline int32_t walk_chunk(const int32_t* keys, int64_t first, int64_t n, int32_t key, F f) {
  int32_t count = 0;
  for (int64_t i = 0; i < kChunk && first + i < n; ++i) {
    if (keys[i] == key) {
      f(first + i, count++);
    }
  }
  return count;
}

template <class Key>
__device__ inline void load_chunk(Key key, int64_t first, int64_t n, int32_t* keys) {
  for (int64_t i = threadIdx.x; i < kChunk && first + i < n; i += kThreads) {
    keys[i] = key(first + i);
  }
  __syncthreads();
}

template <class Key>
__global__ void __launch_bounds__(kThreads) count_chunks(int64_t n, int32_t keys, Key key, KeyCounts counts) {
  __shared__ int32_t chunk[kChunk];
  const int64_t first = blockIdx.x * kChunk;
  load_chunk(key, first, n, chunk);
  for (int32_t k = static_cast<int32_t>(threadIdx.x); k < keys; k += static_cast<int32_t>(kThreads)) {
    counts.of_chunk[k * counts.chunks + blockIdx.x] = walk_chunk(chunk, first, n, k, [](int64_t, int32_t) {});
  }
}

// From the counts of each chunk those of the chunks before it, and where each key begins. `totals` [keys] receives how
// many have each key, cut at `capacity` unless that is 0; null where nobody asks.
void sum_counts(const Stream& stream, int64_t keys, int64_t capacity, KeyCounts counts, int32_t* totals);

// Calls put(i, place), with place -1 for what is beyond its key's capacity.
template <class Key, class Put>
__global__ void __launch_bounds__(kThreads)
    place_chunks(int64_t n, int32_t keys, int64_t capacity, Key key, KeyCounts counts, Put put) {
  __shared__ int32_t chunk[kChunk];
  const int64_t first = blockIdx.x * kChunk;
  load_chunk(key, first, n, chunk);
  for (int32_t k = static_cast<int32_t>(threadIdx.x); k < keys; k += static_cast<int32_t>(kThreads)) {
    const int32_t before = counts.of_chunk[k * counts.chunks + blockIdx.x];
    const int32_t begin = counts.begin[k];
    walk_chunk(chunk, first, n, k, [&](int64_t i, int32_t rank) {
      const int32_t at = before + rank;
      put(i, capacity > 0 && at >= capacity ? -1 : begin + at);
    });
  }
}

// key(i) is in [0, keys).
template <class Key, class Put>
void place_by_key(const Stream& stream, int64_t n, int64_t keys, int64_t capacity, Key key, KeyCounts counts,
                  int32_t* totals, Put put) {
  const auto count = static_cast<int32_t>(keys);
  launch(count_chunks<Key>, {static_cast<unsigned>(counts.chunks)}, {kThreads}, stream, n, count, key, counts);
  sum_counts(stream, keys, capacity, counts, totals);
  launch(place_chunks<Key, Put>, {static_cast<unsigned>(counts.chunks)}, {kThreads}, stream, n, count, capacity, key,
         counts, put);
}

}  // namespace foretrain::kernels::cuda
