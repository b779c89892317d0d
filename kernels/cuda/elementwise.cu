#include "kernels/arguments.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/with_bits.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

template <int kPack, class T, class P>
__global__ void __launch_bounds__(kThreads)
    residual_add_kernel(int64_t n, int64_t cols, const T* a, const T* b, const P* bias, T* y) {
  using W = Wide<T>;
  each_pack<kPack>(
      n,
      [=](int64_t i) {
        const auto x = read<kPack>(a + i), z = read<kPack>(b + i);
        Values<Wide<P>, kPack> added;
        if (bias != nullptr) {
          added = read<kPack>(bias + place_of(i, cols).col);
        }
        return each_of_pack<kPack>([&](int k) { return x.of[k] + z.of[k] + static_cast<W>(added.of[k]); });
      },
      [=](int64_t i, const auto& sums) { write(y + i, sums); });
}

template <class T>
__global__ void fill_kernel(int64_t n, T value, T* x) {
  each_element(
      n, [=](int64_t) { return value; }, [=](int64_t i, T v) { x[i] = v; });
}

template <class S, class T>
__global__ void cast_kernel(int64_t n, const S* src, T* dst) {
  each_element(
      n, [=](int64_t i) { return widen(src[i]); }, [=](int64_t i, Wide<S> x) { dst[i] = narrow<T>(x); });
}

template <class S, class T>
__global__ void add_kernel(int64_t n, const S* src, T* dst) {
  each_element(
      n, [=](int64_t i) { return widen(dst[i]) + static_cast<Wide<T>>(widen(src[i])); },
      [=](int64_t i, Wide<T> sum) { dst[i] = narrow<T>(sum); });
}

template <class T>
struct Addresses {
  T* of[kMostSources];
  unsigned count;
};

template <class T>
__global__ void sum_kernel(int64_t n, Addresses<const T> sources, Addresses<T> sums) {
  each_element(
      n,
      [&](int64_t i) {
        Wide<T> sum = widen(sources.of[0][i]);
        for (unsigned s = 1; s < sources.count; ++s) {
          sum += widen(sources.of[s][i]);
        }
        return sum;
      },
      [&](int64_t i, Wide<T> sum) {
        const T rounded = narrow<T>(sum);
        for (unsigned s = 0; s < sums.count; ++s) {
          sums.of[s][i] = rounded;
        }
      });
}

template <class U>
__global__ void copy_matrix_kernel(int64_t n, int64_t cols, const U* src, int64_t ld_src, U* dst, int64_t ld_dst) {
  each_element(
      n,
      [=](int64_t i) {
        const Place at = place_of(i, cols);
        return src[at.row * ld_src + at.col];
      },
      [=](int64_t i, U x) {
        const Place at = place_of(i, cols);
        dst[at.row * ld_dst + at.col] = x;
      });
}

}  // namespace

void residual_add(const Stream& stream, int64_t rows, int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias,
                  Tensor y) {
  arguments::residual_add(rows, cols, a, b, bias, y);
  with_types(a.dtype, bias ? bias.dtype : a.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    with_pack<T>(cols, {a.data, b.data, bias.data, y.data}, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      launch(residual_add_kernel<kPack, T, P>, {blocks_of(rows * cols, kBlockPacked<kPack>)}, {kThreads}, stream,
             rows * cols, cols, as<T>(a), as<T>(b), as<P>(bias), as<T>(y));
    });
  });
}

void fill(const Stream& stream, Tensor x, int64_t n, double value) {
  arguments::fill(x, n, value);
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(fill_kernel<T>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, n, T(static_cast<Wide<T>>(value)),
           as<T>(x));
  });
}

void cast(const Stream& stream, ConstTensor src, Tensor dst, int64_t n) {
  arguments::cast(src, dst, n);
  with_exchanged(src.dtype, [&](auto s) {
    with_exchanged(dst.dtype, [&](auto t) {
      using S = typename decltype(s)::type;
      using T = typename decltype(t)::type;
      launch(cast_kernel<S, T>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, n, as<S>(src), as<T>(dst));
    });
  });
}

void add(const Stream& stream, ConstTensor src, Tensor dst, int64_t n) {
  arguments::add(src, dst, n);
  with_types(src.dtype, dst.dtype, [&](auto s, auto t) {
    using S = typename decltype(s)::type;
    using T = typename decltype(t)::type;
    launch(add_kernel<S, T>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, n, as<S>(src), as<T>(dst));
  });
}

void sum_in_order(const Stream& stream, std::span<const ConstTensor> sources, Tensor dst,
                  std::span<const Tensor> copies, int64_t n) {
  arguments::sum_in_order(sources, dst, copies, n);
  check_most("sum_in_order", "sources", static_cast<int64_t>(sources.size()), kMostSources);
  check_most("sum_in_order", "copies", static_cast<int64_t>(copies.size()), kMostSources - 1);
  with_exchanged(dst.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    Addresses<const T> from{};
    for (const ConstTensor source : sources) {
      from.of[from.count++] = as<T>(source);
    }
    Addresses<T> to{{as<T>(dst)}, 1};
    for (const Tensor copy : copies) {
      to.of[to.count++] = as<T>(copy);
    }
    launch(sum_kernel<T>, {blocks_of(n, kBlockElements)}, {kThreads}, stream, n, from, to);
  });
}

void copy_matrix(const Stream& stream, int64_t rows, int64_t cols, ConstTensor src, int64_t ld_src, Tensor dst,
                 int64_t ld_dst) {
  arguments::copy_matrix(rows, cols, src, ld_src, dst, ld_dst);
  with_bits(bits(src.dtype), [&](auto u) {
    using U = typename decltype(u)::type;
    launch(copy_matrix_kernel<U>, {blocks_of(rows * cols, kBlockElements)}, {kThreads}, stream, rows * cols, cols,
           as<U>(src), ld_src, as<U>(dst), ld_dst);
  });
}

}  // namespace foretrain::kernels::cuda
