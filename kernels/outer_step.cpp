#include <type_traits>

#include "kernels/arguments.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

template <class W, OuterKind kind>
W stepped(const OuterStep& s, W sum, W* anchor, W* momentum, int64_t i) {
  const W mean = sum / static_cast<W>(s.replicas);
  if constexpr (kind == OuterKind::average) {
    return mean;
  } else {
    W direction = anchor[i] - mean;
    if constexpr (kind == OuterKind::nesterov) {
      const W factor = static_cast<W>(s.momentum);
      momentum[i] = factor * momentum[i] + direction;
      direction += factor * momentum[i];
    }
    return anchor[i] -= static_cast<W>(s.learning_rate) * direction;
  }
}

template <class T, class C, OuterKind kind>
void run(const OuterStep& s, int64_t n, Tensor weights, Tensor anchor, Tensor momentum, Tensor copy) {
  using W = std::conditional_t<std::is_same_v<T, double>, double, float>;
  auto* const w = static_cast<T*>(weights.data);
  auto* const rounded = static_cast<C*>(copy.data);
  for (int64_t i = 0; i < n; ++i) {
    const W next =
        stepped<W, kind>(s, static_cast<W>(w[i]), static_cast<W*>(anchor.data), static_cast<W*>(momentum.data), i);
    w[i] = static_cast<T>(next);
    if (rounded != nullptr) {
      rounded[i] = C(static_cast<float>(next));
    }
  }
}

template <class T, class C>
void run_kind(const OuterStep& s, int64_t n, Tensor weights, Tensor anchor, Tensor momentum, Tensor copy) {
  switch (s.kind) {
    case OuterKind::average: run<T, C, OuterKind::average>(s, n, weights, anchor, momentum, copy); break;
    case OuterKind::sgd: run<T, C, OuterKind::sgd>(s, n, weights, anchor, momentum, copy); break;
    case OuterKind::nesterov: run<T, C, OuterKind::nesterov>(s, n, weights, anchor, momentum, copy); break;
  }
}

}  // namespace

void outer_step(const OuterStep& s, int64_t n, Tensor weights, Tensor anchor, Tensor momentum, Tensor copy) {
  arguments::outer_step(s, n, weights, anchor, momentum, copy);
  switch (weights.dtype) {
    case Dtype::fp64: run_kind<double, Bf16>(s, n, weights, anchor, momentum, copy); break;
    case Dtype::fp32:
      (copy && copy.dtype == Dtype::fp16 ? run_kind<float, Fp16> : run_kind<float, Bf16>)(s, n, weights, anchor,
                                                                                          momentum, copy);
      break;
    case Dtype::fp16: run_kind<Fp16, Fp16>(s, n, weights, anchor, momentum, copy); break;
    default: run_kind<Bf16, Bf16>(s, n, weights, anchor, momentum, copy); break;
  }
}

}  // namespace foretrain::kernels
