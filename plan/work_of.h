// The cases of plan/work.h, one per op kind: those of attention and state-space mixers in work_attention.cpp, of
// experts in work_experts.cpp, the others in work.cpp. Bytes: each operand once, in its own dtype.
#pragma once

#include "plan/work.h"

namespace foretrain::plan {

inline Bytes size(Dtype d, std::int64_t elements) {
  return Bytes{size_bytes(d, elements)};
}

// Statistics, gradients and losses are kept in fp32, or in fp64 where everything is.
inline Dtype wide(Dtype d) {
  return d == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
}

inline double product(std::int64_t a, std::int64_t b, std::int64_t c = 1, std::int64_t d = 1, std::int64_t e = 1) {
  return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c) * static_cast<double>(d) *
         static_cast<double>(e);
}

// Arithmetic per element of the vector kernels, counted on the reference loops of kernels/. They are bound by memory on
// every device we know, so that these only keep reports honest.
inline constexpr double kNormForward = 8, kNormBackward = 11, kNormWeight = 4;
inline constexpr double kSoftmax = 5, kSoftmaxBackward = 4;
inline constexpr double kAdam = 12;

struct WorkOf {
  const Op& op;
  OpWork w;

  void operator()(const Join&);
  void operator()(const Matmul&);
  void operator()(const Norm&);
  void operator()(const SplitColumns&);
  void operator()(const Activation&);
  void operator()(const ResidualAdd&);
  void operator()(const BiasGradient&);
  void operator()(const Embedding&);
  void operator()(const FirstTokens&);
  void operator()(const PositionAdd&);
  void operator()(const CrossEntropy&);
  void operator()(const OutputLoss&);
  void operator()(const SquaredNorm&);
  void operator()(const ClipCoefficient&);
  void operator()(const OptimizerStep&);
  void operator()(const LambUpdate&);
  void operator()(const LossScale&);
  void operator()(const Fill&);
  void operator()(const Accumulate&);
  void operator()(const Cast&);
  void operator()(const Encode&);
  void operator()(const Decode&);
  void operator()(const OuterStep&);
  void operator()(const SumParts&);
  void operator()(const Collective&);
  void operator()(const Exchange&);
  void operator()(const Copy&);
  void operator()(const Host&);
  void operator()(const Channel&);
  void operator()(const Attention&);
  void operator()(const RelativeBias&);
  void operator()(const StateSpace&);
  void operator()(const AttentionSinks&);
  void operator()(const LatentHeads&);
  void operator()(const HeadNorm&);
  void operator()(const Rotary&);
  void operator()(const RingAttention&);
  void operator()(const Reshard&);
  void operator()(const Gate&);
  void operator()(const Route&);
  void operator()(const Permute&);
  void operator()(const GroupedMatmul&);
  void operator()(const ExpertBias&);
  void operator()(const ExpertActivation&);
};

}  // namespace foretrain::plan
