// Of int8 a block of threads codes a block of values. Of top_k the smallest kept magnitude is found digit by digit, and
// what is kept then placed in order (order.h).
#include <bit>
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/compression.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/order.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

using std::uint32_t;
using std::uint64_t;

// A block of threads for a block of values: a thread has one.
static_assert(Code::kBlock == kThreads);

template <class T, class W>
__global__ void encode_int8_kernel(int64_t n, const T* x, W* residual, W* scales, std::int8_t* multiples) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const W v = i < n ? residual[i] + static_cast<W>(widen(x[i])) : W{0};
  const W scale = over_block(Greatest{}, std::abs(v)) / 127;
  const W inverse = scale > 0 ? 1 / scale : 0;
  const W scaled = v * inverse;
  const W multiple = std::nearbyint(scaled > 127 ? W{127} : scaled > -127 ? scaled : W{-127});
  if (i < n) {
    multiples[i] = static_cast<std::int8_t>(multiple);
    residual[i] = v - scale * multiple;
  }
  if (threadIdx.x == 0) {
    scales[blockIdx.x] = scale;
  }
}

template <class T, class W>
__global__ void decode_int8_kernel(int64_t n, int64_t parts, int64_t bytes, const W* scales,
                                   const std::int8_t* multiples, T* x) {
  each_element(
      n,
      [=](int64_t i) {
        W sum = 0;
        for (int64_t part = 0; part < parts; ++part) {
          const auto at = [=](const auto* first) {
            return reinterpret_cast<decltype(first)>(reinterpret_cast<const char*>(first) + part * bytes);
          };
          sum += at(scales)[i / Code::kBlock] * static_cast<W>(at(multiples)[i]);
        }
        return sum;
      },
      [=](int64_t i, W sum) { x[i] = narrow<T>(sum); });
}

template <class T, class W>
__global__ void add_to_residual(int64_t n, const T* x, W* residual) {
  each_element(
      n, [=](int64_t i) { return residual[i] + static_cast<W>(widen(x[i])); },
      [=](int64_t i, W v) { residual[i] = v; });
}

template <class T, class W>
__global__ void decode_top_k_kernel(int64_t kept, const W* values, const uint32_t* places, T* x) {
  each_element(
      kept, [=](int64_t k) { return static_cast<W>(widen(x[places[k]])) + values[k]; },
      [=](int64_t k, W sum) { x[places[k]] = narrow<T>(sum); });
}

template <class T>
__global__ void clear_kernel(int64_t n, T* x) {
  each_element(
      n, [=](int64_t) { return Wide<T>{0}; }, [=](int64_t i, Wide<T> zero) { x[i] = narrow<T>(zero); });
}

// The magnitude as an integer of the same order.
__device__ inline uint64_t rank_of(float x) {
  return std::bit_cast<uint32_t>(x) & 0x7fffffffU;
}
__device__ inline uint64_t rank_of(double x) {
  return std::bit_cast<uint64_t>(x) & 0x7fffffffffffffffU;
}

// Which values are kept, as far as it is known: those above `prefix` in the digits looked at, and `left` of those that
// have it.
struct Selection {
  uint64_t prefix;
  int64_t left;
};

constexpr int kDigit = 8;
constexpr unsigned kMostCounters = 1024;  // blocks that count
constexpr int kNoDigit = 1 << kDigit;

// A thread counts a digit: of the block's values, chunk by chunk, those that have the prefix.
template <class W>
__global__ void __launch_bounds__(kThreads)
    count_digits(int64_t n, const W* v, int shift, const Selection* selection, int64_t* counts) {
  __shared__ int32_t chunk[kChunk];
  const uint64_t prefix = selection->prefix;
  int64_t count = 0;
  for (int64_t first = blockIdx.x * kChunk; first < n; first += gridDim.x * kChunk) {
    __syncthreads();  // everybody is done with the chunk before
    load_chunk(
        [=](int64_t i) {
          const uint64_t rank = rank_of(v[i]) >> shift;
          return rank >> kDigit == prefix ? static_cast<int32_t>(rank % kNoDigit) : kNoDigit;
        },
        first, n, chunk);
    count += walk_chunk(chunk, first, n, static_cast<int32_t>(threadIdx.x), [](int64_t, int32_t) {});
  }
  counts[blockIdx.x * kThreads + threadIdx.x] = count;
}

// One block: the digit in which the last kept value lies.
__global__ void choose_digit(unsigned blocks, const int64_t* counts, Selection* selection) {
  __shared__ int64_t of_digit[kThreads];
  int64_t count = 0;
  for (unsigned b = 0; b < blocks; ++b) {
    count += counts[b * kThreads + threadIdx.x];
  }
  of_digit[threadIdx.x] = count;
  __syncthreads();
  if (threadIdx.x == 0) {
    int64_t left = selection->left;
    unsigned digit = kThreads - 1;
    for (; digit > 0 && left > of_digit[digit]; --digit) {
      left -= of_digit[digit];
    }
    *selection = {selection->prefix << kDigit | digit, left};
  }
}

__global__ void begin_selection(int64_t kept, Selection* selection) {
  if (threadIdx.x == 0) {
    *selection = {0, kept};
  }
}

template <class W>
struct Kind {
  const W* v;
  const Selection* selection;

  __device__ int32_t operator()(int64_t i) const {
    const uint64_t rank = rank_of(v[i]), smallest = selection->prefix;
    return rank > smallest ? 0 : rank == smallest ? 1 : 2;
  }
};

template <class W>
struct Keep {
  W* v;
  int64_t kept;
  W* values;
  uint32_t* places;

  __device__ void operator()(int64_t i, int32_t place) const {
    if (place < kept) {
      values[place] = v[i];
      places[place] = static_cast<uint32_t>(i);
      v[i] = 0;
    }
  }
};

// Keys of three kinds: above the smallest that is kept, equal to it, below. In their order, the first ones are kept.
template <class W>
void encode_top_k(const Stream& stream, const Code& code, W* v, std::byte* coded) {
  const unsigned blocks =
      blocks_of(code.elements, kChunk) < kMostCounters ? blocks_of(code.elements, kChunk) : kMostCounters;
  auto* const selection = static_cast<Selection*>(stream.workspace);
  auto* const counts = reinterpret_cast<int64_t*>(selection + 1);
  auto* const tables = reinterpret_cast<int32_t*>(counts + int64_t{kMostCounters} * kThreads);
  launch(begin_selection, {1}, {kWarp}, stream, code.kept, selection);
  for (int shift = 8 * static_cast<int>(sizeof(W)) - kDigit; shift >= 0; shift -= kDigit) {
    launch(count_digits<W>, {blocks}, {kThreads}, stream, code.elements, v, shift, selection, counts);
    launch(choose_digit, {1}, {kThreads}, stream, blocks, counts, selection);
  }
  const CodeArrays<W, std::byte> out(code, coded);
  place_by_key(stream, code.elements, 3, 0, Kind<W>{v, selection}, KeyCounts::in(tables, code.elements, 3), nullptr,
               Keep<W>{v, code.kept, out.wide, out.places});
}

}  // namespace

void encode(const Stream& stream, const Code& code, ConstTensor x, Tensor residual, void* coded) {
  arguments::encode(code, x, residual, coded);
  check_most("encode", "elements", code.elements, kMostCoded);
  auto* const bytes = static_cast<std::byte*>(coded);
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    W* const v = as<W>(residual);
    if (code.kind == Coding::int8) {
      const CodeArrays<W, std::byte> out(code, bytes);
      launch(encode_int8_kernel<T, W>, {blocks_of(code.elements, Code::kBlock)}, {kThreads}, stream, code.elements,
             as<T>(x), v, out.wide, out.multiples);
      return;
    }
    launch(add_to_residual<T, W>, {blocks_of(code.elements, kBlockElements)}, {kThreads}, stream, code.elements,
           as<T>(x), v);
    if (code.kept > 0) {
      encode_top_k(stream, code, v, bytes);
    }
  });
}

void decode(const Stream& stream, const Code& code, int64_t parts, const void* coded, Tensor x) {
  arguments::decode(code, parts, coded, x);
  const auto* const bytes = static_cast<const std::byte*>(coded);
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    if (code.kind == Coding::int8) {
      const CodeArrays<W, const std::byte> in(code, bytes);
      launch(decode_int8_kernel<T, W>, {blocks_of(code.elements, kBlockElements)}, {kThreads}, stream, code.elements,
             parts, code.bytes(), in.wide, in.multiples, as<T>(x));
      return;
    }
    launch(clear_kernel<T>, {blocks_of(code.elements, kBlockElements)}, {kThreads}, stream, code.elements, as<T>(x));
    for (int64_t part = 0; part < parts; ++part) {  // one after the other: their places may be the same
      const CodeArrays<W, const std::byte> in(code, bytes + part * code.bytes());
      launch(decode_top_k_kernel<T, W>, {blocks_of(code.kept, kBlockElements)}, {kThreads}, stream, code.kept, in.wide,
             in.places, as<T>(x));
    }
  });
}

}  // namespace foretrain::kernels::cuda
