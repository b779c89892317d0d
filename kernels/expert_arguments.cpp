// Of routers and experts.
#include "base/error.h"
#include "kernels/arguments.h"
#include "kernels/launch.h"

namespace foretrain::kernels::arguments {

namespace {

void check_gate(const char* op, const GateShape& s) {
  CHECK(s.tokens >= 0 && s.experts >= 1 && s.top_k >= 1 && s.top_k <= s.experts && s.groups >= 1 &&
            s.experts % s.groups == 0 && s.top_groups >= 1 && s.top_groups <= s.groups &&
            s.top_k <= s.experts / s.groups * s.top_groups,
        "{}: {} of {} experts for {} tokens, from {} of {} groups", op, s.top_k, s.experts, s.tokens, s.top_groups,
        s.groups);
}

// Statistics and weights: fp64 or fp32.
void check_statistics(const char* op, Dtype element, std::initializer_list<Dtype> types) {
  check_same(op, element, types);
  check_wide(op, element, {element});
}

void check_grouped(const char* op, const GroupedShape& s, Dtype first, std::initializer_list<Dtype> others) {
  check_sizes(op, {s.experts, s.out, s.in});
  check_same(op, first, others);
}

void check_expert_bias(const char* op, const ExpertBiasShape& s, std::initializer_list<Dtype> types) {
  check_sizes(op, {s.experts, s.rows, s.cols});
  for (const Dtype d : types) {
    check_element(op, d);
  }
}

}  // namespace

void gate_forward(const GateShape& s, ConstTensor logits, Tensor scores, Tensor weights, std::int32_t*) {
  check_gate("gate_forward", s);
  check_statistics("gate_forward", logits.dtype, {scores.dtype, weights.dtype});
}

void gate_backward(const GateShape& s, ConstTensor scores, const std::int32_t*, ConstTensor dweights, double,
                   const std::int32_t*, std::int64_t, Tensor dlogits) {
  check_gate("gate_backward", s);
  check_statistics("gate_backward", scores.dtype, {dweights.dtype, dlogits.dtype});
}

void permute_forward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor x, const std::int32_t*,
                     Tensor y) {
  check_sizes("permute_forward", {rows, copies, cols});
  CHECK(x.dtype == y.dtype, "permute_forward: {} from {}", name(y.dtype), name(x.dtype));
}

void permute_backward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor y, const std::int32_t*,
                      Tensor x) {
  check_sizes("permute_backward", {rows, copies, cols});
  check_same("permute_backward", x.dtype, {y.dtype});
}

void grouped_forward(const GroupedShape& s, const std::int32_t*, ConstTensor x, ConstTensor w, Tensor y) {
  check_grouped("grouped_forward", s, x.dtype, {w.dtype, y.dtype});
}

void grouped_backward_input(const GroupedShape& s, const std::int32_t*, ConstTensor dy, ConstTensor w, Tensor dx) {
  check_grouped("grouped_backward_input", s, dy.dtype, {w.dtype, dx.dtype});
}

void grouped_backward_weight(const GroupedShape& s, const std::int32_t*, ConstTensor dy, ConstTensor x, Tensor dw) {
  check_grouped("grouped_backward_weight", s, dy.dtype, {x.dtype});
  check_wide("grouped_backward_weight", dy.dtype, {dw.dtype});
}

void expert_bias_forward(const ExpertBiasShape& s, const std::int32_t*, ConstTensor bias, ConstTensor weights,
                         Tensor y) {
  check_expert_bias("expert_bias_forward", s, {bias.dtype, weights.dtype, y.dtype});
}

void expert_bias_backward_weights(const ExpertBiasShape& s, const std::int32_t*, ConstTensor dy, ConstTensor bias,
                                  Tensor dweights) {
  check_expert_bias("expert_bias_backward_weights", s, {dy.dtype, bias.dtype, dweights.dtype});
}

void expert_bias_gradient(const ExpertBiasShape& s, const std::int32_t*, ConstTensor dy, ConstTensor weights,
                          Tensor dbias) {
  check_expert_bias("expert_bias_gradient", s, {dy.dtype, weights.dtype, dbias.dtype});
}

void expert_activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                               ConstTensor weights, Tensor y) {
  arguments::activation_forward(kind, rows, cols, x, y);
  check_wide("expert_activation_forward", y.dtype, {weights.dtype});
}

void expert_activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                                ConstTensor weights, ConstTensor dy, Tensor dx, Tensor dweights) {
  arguments::activation_backward(kind, rows, cols, x, dy, dx);
  check_wide("expert_activation_backward", dy.dtype, {weights.dtype, dweights.dtype});
}

}  // namespace foretrain::kernels::arguments
