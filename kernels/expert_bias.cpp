// Few operations per element beside the experts' products: plain loops over any element types.
#include "kernels/arguments.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"

namespace foretrain::kernels {

namespace {

using std::int32_t;
using std::int64_t;

double load(ConstTensor t, int64_t i) {
  switch (t.dtype) {
    case Dtype::fp64: return static_cast<const double*>(t.data)[i];
    case Dtype::fp32: return static_cast<double>(static_cast<const float*>(t.data)[i]);
    case Dtype::fp16: return static_cast<double>(static_cast<float>(static_cast<const Fp16*>(t.data)[i]));
    default: return static_cast<double>(static_cast<float>(static_cast<const Bf16*>(t.data)[i]));
  }
}

void store(Tensor t, int64_t i, double value) {
  switch (t.dtype) {
    case Dtype::fp64: static_cast<double*>(t.data)[i] = value; break;
    case Dtype::fp32: static_cast<float*>(t.data)[i] = static_cast<float>(value); break;
    case Dtype::fp16: static_cast<Fp16*>(t.data)[i] = static_cast<Fp16>(static_cast<float>(value)); break;
    default: static_cast<Bf16*>(t.data)[i] = static_cast<Bf16>(static_cast<float>(value)); break;
  }
}

void add(Tensor t, int64_t i, double value) {
  store(t, i, load({t.data, t.dtype}, i) + value);
}

double weight_of(ConstTensor weights, int64_t row) {
  return weights.data == nullptr ? 1.0 : load(weights, row);
}

// Calls f(expert, first row, past the last).
template <class F>
void each_expert(const ExpertBiasShape& s, const int32_t* offsets, F f) {
  if (s.experts == 0) {
    f(int64_t{0}, int64_t{0}, s.rows);
  }
  for (int64_t e = 0; e < s.experts; ++e) {
    f(e, int64_t{offsets[e]}, int64_t{offsets[e + 1]});
  }
}

}  // namespace

void expert_bias_forward(const ExpertBiasShape& s, const int32_t* offsets, ConstTensor bias, ConstTensor weights,
                         Tensor y) {
  arguments::expert_bias_forward(s, offsets, bias, weights, y);
  each_expert(s, offsets, [&](int64_t e, int64_t first, int64_t past) {
    for (int64_t r = first; r < past; ++r) {
      const double weight = s.scale * weight_of(weights, r);
      for (int64_t c = 0; c < s.cols; ++c) {
        add(y, r * s.cols + c, weight * load(bias, e * s.cols + c));
      }
    }
  });
}

void expert_bias_backward_weights(const ExpertBiasShape& s, const int32_t* offsets, ConstTensor dy, ConstTensor bias,
                                  Tensor dweights) {
  arguments::expert_bias_backward_weights(s, offsets, dy, bias, dweights);
  each_expert(s, offsets, [&](int64_t e, int64_t first, int64_t past) {
    for (int64_t r = first; r < past; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < s.cols; ++c) {
        sum += load(dy, r * s.cols + c) * load(bias, e * s.cols + c);
      }
      add(dweights, r, s.scale * sum);
    }
  });
}

void expert_bias_gradient(const ExpertBiasShape& s, const int32_t* offsets, ConstTensor dy, ConstTensor weights,
                          Tensor dbias) {
  arguments::expert_bias_gradient(s, offsets, dy, weights, dbias);
  each_expert(s, offsets, [&](int64_t e, int64_t first, int64_t past) {
    for (int64_t c = 0; c < s.cols; ++c) {
      double sum = 0;
      for (int64_t r = first; r < past; ++r) {
        sum += weight_of(weights, r) * load(dy, r * s.cols + c);
      }
      add(dbias, e * s.cols + c, sum);
    }
  });
}

}  // namespace foretrain::kernels
