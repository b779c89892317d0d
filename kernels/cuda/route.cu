// Tables of rows, and moving rows by them.
#include "kernels/arguments.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/order.h"
#include "kernels/cuda/with_bits.h"
#include "kernels/launch.h"

namespace foretrain::kernels::cuda {

namespace {

struct ChosenExpert {
  const int32_t* chosen;

  __device__ int32_t operator()(int64_t i) const { return chosen[i]; }
};

struct PutPlace {
  int32_t* place;

  __device__ void operator()(int64_t i, int32_t at) const { place[i] = at; }
};

// The sum of value(i) over the block, i from `first` to `past` by `step`.
template <class Value>
__device__ int32_t block_sum(int64_t first, int64_t past, int64_t step, Value value) {
  int32_t sum = 0;
  for (int64_t i = first + threadIdx.x * step; i < past; i += kThreads * step) {
    sum += value(i);
  }
  return over_block(Sum{}, sum);
}

// A block for each chunk of rows, those of one member for one expert; chunks arrive by member, then expert.
__global__ void __launch_bounds__(kThreads)
    arrange(int64_t rows, int64_t local, int64_t members, const int32_t* counts, const int32_t* arrived, int32_t* place,
            int32_t* offsets, int32_t* to, int32_t* from) {
  const int64_t chunks = local * members, chunk = blockIdx.x;
  const int64_t member = chunk / local, expert = chunk % local;
  const auto came = [=](int64_t i) { return arrived[i]; };
  const int32_t all = block_sum(0, chunks, 1, came);
  const int32_t first_row = block_sum(0, chunk, 1, came);
  // Sorted, the rows of smaller experts come before, and those of smaller members for this one.
  const int32_t smaller = block_sum(0, chunks, 1, [=](int64_t i) { return i % local < expert ? arrived[i] : 0; });
  const int32_t begin = smaller + block_sum(expert, chunk, local, came);
  if (all > rows) {
    trap();
  }
  for (int32_t k = static_cast<int32_t>(threadIdx.x); k < arrived[chunk]; k += static_cast<int32_t>(kThreads)) {
    place[first_row + k] = begin + k;
  }
  for (int64_t i = all + chunk * kThreads + threadIdx.x; i < rows; i += chunks * kThreads) {
    place[i] = -1;
  }
  if (member == 0 && threadIdx.x == 0) {
    offsets[expert] = begin;
    if (expert == local - 1) {
      offsets[local] = all;
    }
  }
  if (expert == 0) {
    const int32_t sent = block_sum(chunk, chunk + local, 1, [=](int64_t i) { return counts[i]; });
    const int32_t received = block_sum(chunk, chunk + local, 1, came);
    if (threadIdx.x == 0) {
      to[member] = sent;
      from[member] = received;
    }
  }
}

template <class U>
__global__ void __launch_bounds__(kThreads)
    permute(int64_t copies, int64_t cols, const U* x, const int32_t* place, U* y) {
  const int64_t row = place[blockIdx.x];
  if (row < 0) {
    return;
  }
  const U* const from = x + blockIdx.x / copies * cols;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    y[row * cols + c] = from[c];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gather(int64_t copies, int64_t cols, const T* y, const int32_t* place, T* x) {
  const int32_t* const rows = place + blockIdx.x * copies;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    Wide<T> sum = 0;
    for (int64_t i = 0; i < copies; ++i) {
      if (rows[i] >= 0) {
        sum += widen(y[rows[i] * cols + c]);
      }
    }
    x[blockIdx.x * cols + c] = narrow<T>(sum);
  }
}

}  // namespace

void route_count(const Stream& stream, int64_t rows, int64_t experts, int64_t capacity, const int32_t* chosen,
                 int32_t* place, int32_t* counts) {
  check_sizes("route_count", {rows, experts, capacity});
  check_workspace("route_count", static_cast<std::size_t>(KeyCounts::elements(rows, experts)) * sizeof(int32_t));
  place_by_key(stream, rows, experts, capacity, ChosenExpert{chosen},
               KeyCounts::in(static_cast<int32_t*>(stream.workspace), rows, experts), counts, PutPlace{place});
}

void route_arrange(const Stream& stream, int64_t rows, int64_t experts, int64_t members, const int32_t* counts,
                   const int32_t* arrived, int32_t* place, int32_t* offsets, int32_t* to, int32_t* from) {
  check_sizes("route_arrange", {rows, experts, members});
  launch(arrange, {static_cast<unsigned>(experts)}, {kThreads}, stream, rows, experts / members, members, counts,
         arrived, place, offsets, to, from);
}

void permute_forward(const Stream& stream, int64_t rows, int64_t copies, int64_t cols, ConstTensor x,
                     const int32_t* place, Tensor y) {
  arguments::permute_forward(rows, copies, cols, x, place, y);
  with_bits(bits(x.dtype), [&](auto u) {
    using U = typename decltype(u)::type;
    launch(permute<U>, {static_cast<unsigned>(rows * copies)}, {kThreads}, stream, copies, cols, as<U>(x), place,
           as<U>(y));
  });
}

void permute_backward(const Stream& stream, int64_t rows, int64_t copies, int64_t cols, ConstTensor y,
                      const int32_t* place, Tensor x) {
  arguments::permute_backward(rows, copies, cols, y, place, x);
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(gather<T>, {static_cast<unsigned>(rows)}, {kThreads}, stream, copies, cols, as<T>(y), place, as<T>(x));
  });
}

}  // namespace foretrain::kernels::cuda
