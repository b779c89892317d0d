// Launchers of kernels.h: check the call, then run the build of the op for this processor's instruction set.
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/bf16_library.h"
#include "kernels/simd/ops.h"

namespace foretrain::kernels {

void matmul(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c, bool accumulate) {
  arguments::matmul(s, a, b, bias, c, accumulate);
  a.dtype = stored_type(a.dtype);
  b.dtype = stored_type(b.dtype);
  if (a.dtype == Dtype::bf16 && b.dtype == Dtype::bf16 && s.m > 0 && s.n > 0 && s.k > 0) {
    if (const Bf16Library& library = bf16_library();
        library.matmul != nullptr && library.matmul(s, a, b, bias, c, accumulate)) {
      return;
    }
  }
  table().matmul(s, a, b, bias, c, accumulate);
}

void matmul_gelu(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor x, Tensor y) {
  arguments::matmul_gelu(s, a, b, bias, x, y);
  matmul(s, a, b, bias, x, false);
  activation_forward(Activation::gelu, s.m, s.n, x, y);
}

void matmul_gelu_backward(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor x, Tensor dx) {
  arguments::matmul_gelu_backward(s, a, b, x, dx);
  matmul(s, a, b, {}, dx, false);
  activation_backward(Activation::gelu, s.m, s.n, x, dx, dx);
}

void norm_forward(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y, Tensor mean,
                  Tensor rstd) {
  arguments::norm_forward(s, x, gain, bias, y, mean, rstd);
  table().norm_forward(s, x, gain, bias, y, mean, rstd);
}

void norm_backward_input(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor dy, ConstTensor mean,
                         ConstTensor rstd, ConstTensor base, Tensor dx) {
  arguments::norm_backward_input(s, x, gain, dy, mean, rstd, base, dx);
  table().norm_backward_input(s, x, gain, dy, mean, rstd, base, dx);
}

void norm_backward_weight(const NormShape& s, ConstTensor x, ConstTensor dy, ConstTensor mean, ConstTensor rstd,
                          Tensor dgain, Tensor dbias, bool accumulate) {
  arguments::norm_backward_weight(s, x, dy, mean, rstd, dgain, dbias, accumulate);
  table().norm_backward_weight(s, x, dy, mean, rstd, dgain, dbias, accumulate);
}

void head_norm_forward(const HeadNormShape& s, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv, Tensor raw) {
  arguments::head_norm_forward(s, q_gain, k_gain, qkv, raw);
  table().head_norm_forward(s, q_gain, k_gain, qkv, raw);
}

void head_norm_backward_input(const HeadNormShape& s, ConstTensor raw, ConstTensor q_gain, ConstTensor k_gain,
                              Tensor dqkv) {
  arguments::head_norm_backward_input(s, raw, q_gain, k_gain, dqkv);
  table().head_norm_backward_input(s, raw, q_gain, k_gain, dqkv);
}

void head_norm_backward_weight(const HeadNormShape& s, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                               Tensor dk_gain) {
  arguments::head_norm_backward_weight(s, raw, dqkv, dq_gain, dk_gain);
  table().head_norm_backward_weight(s, raw, dqkv, dq_gain, dk_gain);
}

void activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, Tensor y) {
  arguments::activation_forward(kind, rows, cols, x, y);
  table().activation_forward(kind, rows, cols, x, y);
}

void activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, ConstTensor dy,
                         Tensor dx) {
  arguments::activation_backward(kind, rows, cols, x, dy, dx);
  table().activation_backward(kind, rows, cols, x, dy, dx);
}

void residual_add(std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor y) {
  arguments::residual_add(rows, cols, a, b, bias, y);
  table().residual_add(rows, cols, a, b, bias, y);
}

void bias_gradient(std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db, bool accumulate) {
  arguments::bias_gradient(rows, cols, dy, db, accumulate);
  table().bias_gradient(rows, cols, dy, db, accumulate);
}

void fill(Tensor x, std::int64_t n, double value) {
  arguments::fill(x, n, value);
  table().fill(x, n, value);
}

void cast(ConstTensor src, Tensor dst, std::int64_t n) {
  arguments::cast(src, dst, n);
  table().cast(src, dst, n);
}

void add(ConstTensor src, Tensor dst, std::int64_t n) {
  arguments::add(src, dst, n);
  table().add(src, dst, n);
}

void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, std::int64_t n) {
  arguments::sum_in_order(sources, dst, copies, n);
  table().sum_in_order(sources, dst, copies, n);
}

void rotary_forward(const AttentionShape& s, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                    std::int64_t position_offset, Tensor qkv) {
  arguments::rotary_forward(s, rotary_dim, frequencies, position_offset, qkv);
  table().rotary_forward(s, rotary_dim, frequencies, position_offset, qkv);
}

void rotary_backward(const AttentionShape& s, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                     std::int64_t position_offset, Tensor dqkv) {
  arguments::rotary_backward(s, rotary_dim, frequencies, position_offset, dqkv);
  table().rotary_backward(s, rotary_dim, frequencies, position_offset, dqkv);
}

void attention_forward(const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  arguments::attention_forward(s, qkv, o, lse);
  table().attention_forward(s, qkv, o, lse);
}

void attention_backward(const AttentionShape& s, ConstTensor qkv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                        Tensor dqkv) {
  arguments::attention_backward(s, qkv, o, lse, d_o, dqkv);
  table().attention_backward(s, qkv, o, lse, d_o, dqkv);
}

void attention_scale_mask(const AttentionShape& s, Tensor scores) {
  arguments::attention_scale_mask(s, scores);
  table().attention_scale_mask(s, scores);
}

void attention_softmax(const AttentionShape& s, ConstTensor scores, Tensor p) {
  arguments::attention_softmax(s, scores, p);
  table().attention_softmax(s, scores, p);
}

void attention_scale_mask_softmax(const AttentionShape& s, ConstTensor scores, Tensor p) {
  arguments::attention_scale_mask_softmax(s, scores, p);
  table().attention_scale_mask_softmax(s, scores, p);
}

void attention_softmax_backward(const AttentionShape& s, ConstTensor p, ConstTensor dp, Tensor ds) {
  arguments::attention_softmax_backward(s, p, dp, ds);
  table().attention_softmax_backward(s, p, dp, ds);
}

void attention_scale_mask_backward(const AttentionShape& s, Tensor ds) {
  arguments::attention_scale_mask_backward(s, ds);
  table().attention_scale_mask_backward(s, ds);
}

void attention_scale_mask_softmax_backward(const AttentionShape& s, ConstTensor p, ConstTensor dp, Tensor ds) {
  arguments::attention_scale_mask_softmax_backward(s, p, dp, ds);
  table().attention_scale_mask_softmax_backward(s, p, dp, ds);
}

void embedding_forward(const EmbeddingShape& s, const std::int32_t* ids, ConstTensor wte, ConstTensor wpe, Tensor out) {
  arguments::embedding_forward(s, ids, wte, wpe, out);
  table().embedding_forward(s, ids, wte, wpe, out);
}

void embedding_backward(const EmbeddingShape& s, const std::int32_t* ids, ConstTensor dout, Tensor dwte, Tensor dwpe) {
  arguments::embedding_backward(s, ids, dout, dwte, dwpe);
  table().embedding_backward(s, ids, dout, dwte, dwpe);
}

void cross_entropy_stats(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t* targets, Tensor stats) {
  arguments::cross_entropy_stats(s, logits, targets, stats);
  table().cross_entropy_stats(s, logits, targets, stats);
}

void cross_entropy_combine(std::int64_t rows, std::int64_t parts, ConstTensor stats, double scale, double* loss,
                           bool accumulate, Tensor row_stats) {
  arguments::cross_entropy_combine(rows, parts, stats, scale, loss, accumulate, row_stats);
  table().cross_entropy_combine(rows, parts, stats, scale, loss, accumulate, row_stats);
}

void cross_entropy_backward(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t* targets,
                            ConstTensor row_stats, double scale, Tensor gradient, const double* factor) {
  arguments::cross_entropy_backward(s, logits, targets, row_stats, scale, gradient, factor);
  table().cross_entropy_backward(s, logits, targets, row_stats, scale, gradient, factor);
}

void output_loss_forward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale,
                         double* loss) {
  arguments::output_loss_forward(kind, n, y, target, scale, loss);
  table().output_loss_forward(kind, n, y, target, scale, loss);
}

void output_loss_backward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale, Tensor dy,
                          const double* factor) {
  arguments::output_loss_backward(kind, n, y, target, scale, dy, factor);
  table().output_loss_backward(kind, n, y, target, scale, dy, factor);
}

void squared_norm(ConstTensor x, std::int64_t n, double* sum, bool accumulate) {
  arguments::squared_norm(x, n, sum, accumulate);
  table().squared_norm(x, n, sum, accumulate);
}

void clip_coefficient(std::span<const double> sums, double clip, double* norm, double* coefficient,
                      const double* factor) {
  double total = 0.0;
  for (const double sum : sums) {
    total += sum;
  }
  const double by = factor != nullptr ? 1.0 / *factor : 1.0;
  *norm = std::sqrt(total) * by;
  const double ratio = clip / (*norm + 1e-6);
  *coefficient = (ratio > 1.0 ? 1.0 : ratio) * by;
}

void update_loss_scale(const LossScaleRule& rule, const double* norm, LossScaleState* state) {
  if (norm == nullptr) {
    state->scale = state->scale == 0 ? rule.initial : state->scale;
    return;
  }
  if (std::isfinite(*norm)) {
    state->is_finite = 1;
    state->in_a_row = 0;
    state->steps += 1;
    if (state->steps >= static_cast<double>(rule.interval)) {
      state->scale *= rule.growth;
      state->steps = 0;
    }
    return;
  }
  state->is_finite = state->steps = 0;
  state->scale *= rule.backoff;
  state->in_a_row += 1;
  state->skipped += 1;
}

void lamb_update(const OptimizerStep& step, std::int64_t n, Tensor gradient, const double* coefficient,
                 ConstTensor parameter, Tensor m, Tensor v) {
  arguments::lamb_update(step, n, gradient, coefficient, parameter, m, v);
  table().lamb_update(step, n, gradient, coefficient, parameter, m, v);
}

void lamb_step(std::int64_t n, double learning_rate, ConstTensor update, const double* weights, const double* updates,
               Tensor parameter, Tensor copy) {
  arguments::lamb_step(n, learning_rate, update, weights, updates, parameter, copy);
  table().lamb_step(n, learning_rate, update, weights, updates, parameter, copy);
}

void init_normal(const InitShape& s, double standard_deviation, Tensor x) {
  arguments::init_normal(s, standard_deviation, x);
  table().init_normal(s, standard_deviation, x);
}

void init_uniform(const InitShape& s, double low, double high, Tensor x) {
  arguments::init_uniform(s, low, high, x);
  table().init_uniform(s, low, high, x);
}

}  // namespace foretrain::kernels
