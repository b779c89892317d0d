// The optimizer's step: of weights held in bf16 in tiles, which are updated in fp32 and rounded by chance.
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "kernels/arguments.h"
#include "kernels/rounding.h"
#include "kernels/simd/ops.h"

namespace foretrain::kernels {

void optimizer_step(const OptimizerStep& step, std::int64_t n, ConstTensor gradient, const double* coefficient,
                    Tensor parameter, Tensor m, Tensor v, Tensor copy) {
  arguments::optimizer_step(step, n, gradient, coefficient, parameter, m, v, copy);
  if (parameter.dtype != Dtype::bf16) {
    table().optimizer_step(step, n, gradient, coefficient, parameter, m, v, copy);
    return;
  }
  constexpr std::int64_t kTile = 1024;
  float tile[kTile];
  const auto from = [](auto t, std::int64_t element) {
    using Byte = std::conditional_t<std::is_same_v<decltype(t), Tensor>, std::byte, const std::byte>;
    return t ? decltype(t){static_cast<Byte*>(t.data) + size_bytes(t.dtype, element), t.dtype} : t;
  };
  auto* const p = static_cast<Bf16*>(parameter.data);
  for (std::int64_t begin = 0; begin < n; begin += kTile) {
    const std::int64_t count = std::min(kTile, n - begin);
    std::transform(p + begin, p + begin + count, tile, [](Bf16 x) { return static_cast<float>(x); });
    table().optimizer_step(step, count, from(gradient, begin), coefficient, {tile, Dtype::fp32}, from(m, begin),
                           from(v, begin), {});
    store_rounded(step.rounding, step.step, begin, count, tile, p + begin);
  }
}

}  // namespace foretrain::kernels
