#include "kernels/arguments.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

template <class W>
struct Outer {
  W replicas, learning_rate, momentum;
};

template <class T, class W, OuterKind kind>
__global__ void outer_step_kernel(int64_t n, Outer<W> s, T* weights, W* anchor, W* momentum, Bf16* copy) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) {
    return;
  }
  W next = static_cast<W>(widen(weights[i])) / s.replicas;
  if constexpr (kind != OuterKind::average) {
    W direction = anchor[i] - next;
    if constexpr (kind == OuterKind::nesterov) {
      const W gathered = s.momentum * momentum[i] + direction;
      momentum[i] = gathered;
      direction += s.momentum * gathered;
    }
    next = anchor[i] - s.learning_rate * direction;
    anchor[i] = next;
  }
  weights[i] = narrow<T>(next);
  if (copy != nullptr) {
    copy[i] = narrow<Bf16>(next);
  }
}

template <OuterKind kind>
void run(const Stream& stream, const OuterStep& s, int64_t n, Tensor weights, Tensor anchor, Tensor momentum,
         Tensor copy) {
  with_type(weights.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    const Outer<W> outer{static_cast<W>(s.replicas), static_cast<W>(s.learning_rate), static_cast<W>(s.momentum)};
    launch(outer_step_kernel<T, W, kind>, {blocks_of(n, kThreads)}, {kThreads}, stream, n, outer, as<T>(weights),
           as<W>(anchor), as<W>(momentum), as<Bf16>(copy));
  });
}

}  // namespace

void outer_step(const Stream& stream, const OuterStep& s, int64_t n, Tensor weights, Tensor anchor, Tensor momentum,
                Tensor copy) {
  arguments::outer_step(s, n, weights, anchor, momentum, copy);
  switch (s.kind) {
    case OuterKind::average: run<OuterKind::average>(stream, s, n, weights, anchor, momentum, copy); break;
    case OuterKind::sgd: run<OuterKind::sgd>(stream, s, n, weights, anchor, momentum, copy); break;
    case OuterKind::nesterov: run<OuterKind::nesterov>(stream, s, n, weights, anchor, momentum, copy); break;
  }
}

}  // namespace foretrain::kernels::cuda
