#include "kernels/scratch.h"

#include <sys/mman.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <tuple>
#include <vector>

#include "kernels/kernels.h"

namespace foretrain::kernels {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};

struct Arena {
  std::unique_ptr<void, FreeDeleter> memory;
  std::size_t bytes = 0;

  void* grow(std::size_t wanted) {
    if (wanted > bytes) {
      const std::size_t rounded = (wanted + kHugePage - 1) / kHugePage * kHugePage;
      memory.reset();
      bytes = 0;
      memory.reset(std::aligned_alloc(kHugePage, rounded));
      if (memory == nullptr) {
        throw std::bad_alloc();
      }
      madvise(memory.get(), rounded, MADV_HUGEPAGE);
      std::memset(memory.get(), 0, rounded);
      bytes = rounded;
    }
    return memory.get();
  }
};

template <class W>
struct RotaryCache {
  std::tuple<std::int64_t, std::int64_t, RotaryFrequencies, std::int64_t> key{};
  std::vector<W> values;

  std::size_t bytes() const { return values.capacity() * sizeof(W); }
};

struct ThreadMemory {
  Arena op;
  Arena product;
  RotaryCache<float> rotary_float;
  RotaryCache<double> rotary_double;
};

thread_local ThreadMemory memory;

template <class W>
RotaryCache<W>& rotary_cache() {
  if constexpr (std::is_same_v<W, float>) {
    return memory.rotary_float;
  } else {
    return memory.rotary_double;
  }
}

}  // namespace

void* scratch(Scratch use, std::size_t bytes) {
  return use == Scratch::op ? memory.op.grow(bytes) : memory.product.grow(bytes);
}

template <class W>
RotaryTable<W> rotary_table(std::int64_t seq, std::int64_t dim, const RotaryFrequencies& frequencies,
                            std::int64_t position_offset) {
  RotaryCache<W>& cache = rotary_cache<W>();
  const std::int64_t half = dim / 2;
  const auto count = static_cast<std::size_t>(seq * half);
  const auto key = std::make_tuple(seq, dim, frequencies, position_offset);
  if (cache.key != key || cache.values.size() != 2 * count) {
    cache.values.resize(2 * count);
    for (std::int64_t i = 0; i < half; ++i) {
      const double frequency =
          frequencies.scaled(std::pow(frequencies.base, -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
      for (std::int64_t t = 0; t < seq; ++t) {
        const double angle = static_cast<double>(position_offset + t) * frequency;
        const auto at = static_cast<std::size_t>(t * half + i);
        cache.values[at] = static_cast<W>(std::cos(angle));
        cache.values[count + at] = static_cast<W>(std::sin(angle));
      }
    }
    cache.key = key;
  }
  return {cache.values.data(), cache.values.data() + count};
}
template RotaryTable<float> rotary_table(std::int64_t, std::int64_t, const RotaryFrequencies&, std::int64_t);
template RotaryTable<double> rotary_table(std::int64_t, std::int64_t, const RotaryFrequencies&, std::int64_t);

std::size_t scratch_bytes() {
  return memory.op.bytes + memory.product.bytes + memory.rotary_float.bytes() + memory.rotary_double.bytes();
}

}  // namespace foretrain::kernels
