// What replicas do with what they exchange (plan/ops.h): rounding and coding, sums of what was gathered, the step
// behind an average.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/code.h"
#include "base/dtype.h"

namespace foretrain::plan {

struct Cast {  // y = x, rounded to its type. reads {x}, writes {y}
  std::int64_t elements = 0;
  Dtype from = Dtype::fp32, to = Dtype::fp32;
  friend bool operator==(const Cast&, const Cast&) = default;
};

// Values coded before they are exchanged, with error feedback (Seide et al. 2014; Karimireddy et al.,
// arXiv:1901.09847): v = x + residual, residual = v - what the code says. reads {x, residual}, writes {code, residual}.
struct Encode {
  Code code;
  Dtype dtype = Dtype::fp32;  // of x; the residual has the code's
  friend bool operator==(const Encode&, const Encode&) = default;
};

// x = the sum of `parts` codes, one behind the other, in their order. reads {codes}, writes {x}.
struct Decode {
  Code code;
  std::int32_t parts = 1;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Decode&, const Decode&) = default;
};

// Once replicas have summed their weights: weights = sum / replicas; or the outer step from where the last one ended,
// the anchor, along anchor - sum / replicas, which gives the next anchor, and the weights. nesterov: momentum =
// `momentum` * momentum + gradient, a step along gradient + `momentum` * momentum (DiLoCo, arXiv:2311.08105).
// reads {weights, [anchor], [momentum]}, writes {weights, [anchor], [momentum], [parameter]}: the parameter is the
// weights, rounded, where these are master weights; average has no anchor, nesterov alone has a momentum.
enum class OuterKind : std::uint8_t { average, sgd, nesterov };
std::string_view name(OuterKind k);
struct OuterOptimizer {
  OuterKind kind = OuterKind::average;
  double learning_rate = 0.7, momentum = 0.9;  // DiLoCo's
  friend bool operator==(const OuterOptimizer&, const OuterOptimizer&) = default;
};
struct OuterStep {
  std::int64_t elements = 0;
  std::int32_t replicas = 1;
  OuterOptimizer outer;
  Dtype weights = Dtype::fp32, anchor = Dtype::fp32, parameter = Dtype::fp32;
  bool has_master = false;
  friend bool operator==(const OuterStep&, const OuterStep&) = default;
};

// y = [y +] the sum of `parts` tensors one behind the other, added in their order. reads {parts, [y if accumulate]},
// writes {y}.
struct SumParts {
  std::int64_t elements = 0;  // of y, and of each part
  std::int32_t parts = 1;
  bool accumulate = false;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const SumParts&, const SumParts&) = default;
};

}  // namespace foretrain::plan
