// Logits by distance from a table of buckets. A few thousand numbers per step: one build serves every processor.
#include <algorithm>
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

// Calls f(index in the table, index in the bias).
template <class F>
void for_each_distance(const RelativeBiasShape& s, F f) {
  for (int64_t head = 0; head < s.heads; ++head) {
    for (int64_t i = 0; i < s.distances(); ++i) {
      f(head * s.buckets + relative_bucket(s, i - (s.seq - 1)), head * s.distances() + i);
    }
  }
}

template <class T, class W>
void forward(const RelativeBiasShape& s, ConstTensor table, Tensor bias) {
  const T* const from = static_cast<const T*>(table.data);
  W* const to = static_cast<W*>(bias.data);
  for_each_distance(s, [&](int64_t bucket, int64_t at) { to[at] = static_cast<W>(from[bucket]); });
}

template <class W>
void backward(const RelativeBiasShape& s, ConstTensor d_bias, Tensor d_table) {
  const W* const from = static_cast<const W*>(d_bias.data);
  W* const to = static_cast<W*>(d_table.data);
  for_each_distance(s, [&](int64_t bucket, int64_t at) { to[bucket] += from[at]; });
}

}  // namespace

// In fp32, as the library that T5's weights come with computes it (transformers,
// T5Attention._relative_position_bucket).
int64_t relative_bucket(const RelativeBiasShape& s, int64_t distance) {
  const int64_t of_side = s.bidirectional ? s.buckets / 2 : s.buckets;
  const int64_t first = s.bidirectional && distance > 0 ? of_side : 0;
  const int64_t away = s.bidirectional ? std::abs(distance) : std::max<int64_t>(0, -distance);
  const int64_t exact = of_side / 2;
  if (away < exact) {
    return first + away;
  }
  const float share = std::log(static_cast<float>(away) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(s.max_distance) / static_cast<double>(exact)));
  const auto further = static_cast<int64_t>(share * static_cast<float>(of_side - exact));
  return first + std::min(of_side - 1, exact + further);
}

void relative_bias_forward(const RelativeBiasShape& s, ConstTensor table, Tensor bias) {
  arguments::relative_bias_forward(s, table, bias);
  switch (table.dtype) {
    case Dtype::fp64: forward<double, double>(s, table, bias); break;
    case Dtype::fp32: forward<float, float>(s, table, bias); break;
    case Dtype::fp16: forward<Fp16, float>(s, table, bias); break;
    default: forward<Bf16, float>(s, table, bias); break;
  }
}

void relative_bias_backward(const RelativeBiasShape& s, ConstTensor d_bias, Tensor d_table) {
  arguments::relative_bias_backward(s, d_bias, d_table);
  if (d_bias.dtype == Dtype::fp64) {
    backward<double>(s, d_bias, d_table);
  } else {
    backward<float>(s, d_bias, d_table);
  }
}

}  // namespace foretrain::kernels
