// Plain loops, which the compiler turns into vectors.
#include "kernels/half.h"

#include <algorithm>
#include <cstring>

#include "kernels/bf16.h"
#include "kernels/fp16.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

template <class From, class To>
void cast_range(ConstTensor src, Tensor dst, int64_t n) {
  const auto* const from = static_cast<const From*>(src.data);
  auto* const to = static_cast<To*>(dst.data);
  for (int64_t i = 0; i < n; ++i) {
    to[i] = static_cast<To>(static_cast<float>(from[i]));
  }
}

}  // namespace

void cast_half(ConstTensor src, Tensor dst, int64_t n) {
  const bool narrows = dst.dtype == Dtype::fp16;
  switch (narrows ? src.dtype : dst.dtype) {
    case Dtype::fp16: std::memmove(dst.data, src.data, static_cast<std::size_t>(n) * sizeof(Fp16)); break;
    case Dtype::fp64: (narrows ? cast_range<double, Fp16> : cast_range<Fp16, double>)(src, dst, n); break;
    case Dtype::fp32: (narrows ? cast_range<float, Fp16> : cast_range<Fp16, float>)(src, dst, n); break;
    default: (narrows ? cast_range<Bf16, Fp16> : cast_range<Fp16, Bf16>)(src, dst, n); break;
  }
}

void sum_halves(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, int64_t n) {
  constexpr int64_t kBlock = 1024;
  float sum[kBlock];
  const auto at = [](const auto& tensor, int64_t i) { return static_cast<const Fp16*>(tensor.data) + i; };
  auto* const out = static_cast<Fp16*>(dst.data);
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t size = std::min(kBlock, n - i);
    std::transform(at(sources[0], i), at(sources[0], i) + size, sum, [](Fp16 x) { return static_cast<float>(x); });
    for (const ConstTensor& source : sources.subspan(1)) {
      const Fp16* const from = at(source, i);
      for (int64_t j = 0; j < size; ++j) {
        sum[j] += static_cast<float>(from[j]);
      }
    }
    std::transform(sum, sum + size, out + i, [](float x) { return Fp16(x); });
    for (const Tensor& copy : copies) {
      std::memcpy(static_cast<Fp16*>(copy.data) + i, out + i, static_cast<std::size_t>(size) * sizeof(Fp16));
    }
  }
}

}  // namespace foretrain::kernels
