#include "kernels/arguments.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/turns.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) rotate(AttentionShape s, int64_t rotary_dim, RotaryFrequencies frequencies,
                                                   int64_t position_offset, Wide<T> direction, T* qkv) {
  using W = Wide<T>;
  const int64_t token = blockIdx.x;
  const Turns<W> turns = turns_at<W>(position_offset + token % s.seq, rotary_dim, frequencies);
  for (int64_t i = threadIdx.x; i < (s.heads + s.kv_heads) * turns.half; i += kThreads) {
    const Place at = place_of(i, turns.half);
    T* const low = qkv + token * s.qkv_cols() + at.row * s.head_dim + at.col;
    T* const high = low + turns.half;
    const Turned<W> pair = turned(turns, direction, at.col, widen(*low), widen(*high));
    *low = narrow<T>(pair.low);
    *high = narrow<T>(pair.high);
  }
}

void rotate_all(const Stream& stream, const AttentionShape& s, int64_t rotary_dim, RotaryFrequencies frequencies,
                int64_t position_offset, int direction, Tensor qkv) {
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    launch_shared(rotate<T>, {static_cast<unsigned>(s.tokens())}, {kThreads}, turns_bytes<W>(rotary_dim), stream, s,
                  rotary_dim, frequencies, position_offset, static_cast<W>(direction), as<T>(qkv));
  });
}

}  // namespace

void rotary_forward(const Stream& stream, const AttentionShape& s, int64_t rotary_dim,
                    const RotaryFrequencies& frequencies, int64_t position_offset, Tensor qkv) {
  arguments::rotary_forward(s, rotary_dim, frequencies, position_offset, qkv);
  rotate_all(stream, s, rotary_dim, frequencies, position_offset, 1, qkv);
}

void rotary_backward(const Stream& stream, const AttentionShape& s, int64_t rotary_dim,
                     const RotaryFrequencies& frequencies, int64_t position_offset, Tensor dqkv) {
  arguments::rotary_backward(s, rotary_dim, frequencies, position_offset, dqkv);
  rotate_all(stream, s, rotary_dim, frequencies, position_offset, -1, dqkv);
}

}  // namespace foretrain::kernels::cuda
