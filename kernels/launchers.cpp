#include "kernels/launchers.h"

#include <cstring>

#include "base/error.h"

namespace foretrain::kernels {

namespace {

std::int64_t rows_of(std::int64_t rows, const std::int32_t* count) {
  return count != nullptr ? *count : rows;
}

class CpuLaunchers : public Launchers {
 public:
  void set_guard(const double* guard) const override {
    CHECK(guard == nullptr, "who calls the kernels of a CPU looks at its guard");
  }
  double* scalar() const override {
    thread_local double value = 0.0;
    return &value;
  }
  void copy(const void* from, void* to, std::int64_t bytes) const override {
    if (from != to && bytes > 0) {
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
  }

  void matmul(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
              bool accumulate) const override {
    kernels::matmul(shape, a, b, bias, c, accumulate);
  }
  void matmul_gelu(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor x,
                   Tensor y) const override {
    kernels::matmul_gelu(shape, a, b, bias, x, y);
  }
  void matmul_gelu_backward(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor x,
                            Tensor dx) const override {
    kernels::matmul_gelu_backward(shape, a, b, x, dx);
  }
  void norm_forward(const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y, Tensor mean,
                    Tensor rstd) const override {
    kernels::norm_forward(shape, x, gain, bias, y, mean, rstd);
  }
  void norm_backward_input(const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor dy, ConstTensor mean,
                           ConstTensor rstd, ConstTensor base, Tensor dx) const override {
    kernels::norm_backward_input(shape, x, gain, dy, mean, rstd, base, dx);
  }
  void norm_backward_weight(const NormShape& shape, ConstTensor x, ConstTensor dy, ConstTensor mean, ConstTensor rstd,
                            Tensor dgain, Tensor dbias, bool accumulate) const override {
    kernels::norm_backward_weight(shape, x, dy, mean, rstd, dgain, dbias, accumulate);
  }
  void head_norm_forward(const HeadNormShape& shape, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv,
                         Tensor raw) const override {
    kernels::head_norm_forward(shape, q_gain, k_gain, qkv, raw);
  }
  void head_norm_backward_input(const HeadNormShape& shape, ConstTensor raw, ConstTensor q_gain, ConstTensor k_gain,
                                Tensor dqkv) const override {
    kernels::head_norm_backward_input(shape, raw, q_gain, k_gain, dqkv);
  }
  void head_norm_backward_weight(const HeadNormShape& shape, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                                 Tensor dk_gain) const override {
    kernels::head_norm_backward_weight(shape, raw, dqkv, dq_gain, dk_gain);
  }
  void activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                          Tensor y) const override {
    kernels::activation_forward(kind, rows, cols, x, y);
  }
  void activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, ConstTensor dy,
                           Tensor dx) const override {
    kernels::activation_backward(kind, rows, cols, x, dy, dx);
  }
  void residual_add(std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias,
                    Tensor y) const override {
    kernels::residual_add(rows, cols, a, b, bias, y);
  }
  void bias_gradient(std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db, bool accumulate) const override {
    kernels::bias_gradient(rows, cols, dy, db, accumulate);
  }
  void fill(Tensor x, std::int64_t n, double value) const override { kernels::fill(x, n, value); }
  void cast(ConstTensor src, Tensor dst, std::int64_t n) const override { kernels::cast(src, dst, n); }
  void add(ConstTensor src, Tensor dst, std::int64_t n) const override { kernels::add(src, dst, n); }
  void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies,
                    std::int64_t n) const override {
    kernels::sum_in_order(sources, dst, copies, n);
  }
  void encode(const Code& code, ConstTensor x, Tensor residual, void* coded) const override {
    kernels::encode(code, x, residual, coded);
  }
  void decode(const Code& code, std::int64_t parts, const void* coded, Tensor x) const override {
    kernels::decode(code, parts, coded, x);
  }
  void copy_matrix(std::int64_t rows, std::int64_t cols, ConstTensor src, std::int64_t ld_src, Tensor dst,
                   std::int64_t ld_dst) const override {
    kernels::copy_matrix(rows, cols, src, ld_src, dst, ld_dst);
  }
  void rotary_forward(const AttentionShape& shape, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                      std::int64_t position_offset, Tensor qkv) const override {
    kernels::rotary_forward(shape, rotary_dim, frequencies, position_offset, qkv);
  }
  void rotary_backward(const AttentionShape& shape, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                       std::int64_t position_offset, Tensor dqkv) const override {
    kernels::rotary_backward(shape, rotary_dim, frequencies, position_offset, dqkv);
  }
  void latent_heads_forward(const LatentHeadsShape& shape, const RotaryFrequencies& frequencies, ConstTensor q,
                            ConstTensor kv, ConstTensor k_rope, Tensor qkv) const override {
    kernels::latent_heads_forward(shape, frequencies, q, kv, k_rope, qkv);
  }
  void latent_heads_backward(const LatentHeadsShape& shape, const RotaryFrequencies& frequencies, ConstTensor dqkv,
                             Tensor dq, Tensor dkv, Tensor dk_rope) const override {
    kernels::latent_heads_backward(shape, frequencies, dqkv, dq, dkv, dk_rope);
  }
  void attention_forward(const AttentionShape& shape, ConstTensor qkv, Tensor o, Tensor lse) const override {
    kernels::attention_forward(shape, qkv, o, lse);
  }
  void attention_backward(const AttentionShape& shape, ConstTensor qkv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                          Tensor dqkv) const override {
    kernels::attention_backward(shape, qkv, o, lse, d_o, dqkv);
  }
  void attention_part_forward(const AttentionShape& shape, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                              Tensor o, Tensor lse) const override {
    kernels::attention_part_forward(shape, part, qkv, kv, o, lse);
  }
  void attention_part_backward(const AttentionShape& shape, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                               ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv, Tensor dkv,
                               bool add_to_dq) const override {
    kernels::attention_part_backward(shape, part, qkv, kv, o, lse, d_o, dqkv, dkv, add_to_dq);
  }
  void attention_merge(const AttentionShape& shape, std::int64_t parts, ConstTensor o_parts, ConstTensor lse_parts,
                       Tensor o, Tensor lse) const override {
    kernels::attention_merge(shape, parts, o_parts, lse_parts, o, lse);
  }
  void attention_rows_forward(const AttentionShape& shape, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                              ConstTensor bias, Tensor o, Tensor lse) const override {
    kernels::attention_rows_forward(shape, rows, q, kv, bias, o, lse);
  }
  void attention_rows_backward(const AttentionShape& shape, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                               ConstTensor bias, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dq, Tensor dkv,
                               Tensor d_bias) const override {
    kernels::attention_rows_backward(shape, rows, q, kv, bias, o, lse, d_o, dq, dkv, d_bias);
  }
  void relative_bias_forward(const RelativeBiasShape& shape, ConstTensor table, Tensor bias) const override {
    kernels::relative_bias_forward(shape, table, bias);
  }
  void relative_bias_backward(const RelativeBiasShape& shape, ConstTensor d_bias, Tensor d_table) const override {
    kernels::relative_bias_backward(shape, d_bias, d_table);
  }
  void attention_sinks_forward(const AttentionShape& shape, ConstTensor sinks, Tensor o, Tensor lse) const override {
    kernels::attention_sinks_forward(shape, sinks, o, lse);
  }
  void attention_sinks_backward(const AttentionShape& shape, ConstTensor sinks, ConstTensor o, ConstTensor lse,
                                ConstTensor d_o, Tensor d_sinks) const override {
    kernels::attention_sinks_backward(shape, sinks, o, lse, d_o, d_sinks);
  }
  void attention_scores(const AttentionShape& shape, ConstTensor qkv, Tensor s) const override {
    kernels::attention_scores(shape, qkv, s);
  }
  void attention_scale_mask(const AttentionShape& shape, Tensor s) const override {
    kernels::attention_scale_mask(shape, s);
  }
  void attention_softmax(const AttentionShape& shape, ConstTensor s, Tensor p) const override {
    kernels::attention_softmax(shape, s, p);
  }
  void attention_scale_mask_softmax(const AttentionShape& shape, ConstTensor s, Tensor p) const override {
    kernels::attention_scale_mask_softmax(shape, s, p);
  }
  void attention_context(const AttentionShape& shape, ConstTensor p, ConstTensor qkv, Tensor o) const override {
    kernels::attention_context(shape, p, qkv, o);
  }
  void attention_context_backward(const AttentionShape& shape, ConstTensor p, ConstTensor qkv, ConstTensor d_o,
                                  Tensor dp, Tensor dqkv) const override {
    kernels::attention_context_backward(shape, p, qkv, d_o, dp, dqkv);
  }
  void attention_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp,
                                  Tensor ds) const override {
    kernels::attention_softmax_backward(shape, p, dp, ds);
  }
  void attention_scale_mask_backward(const AttentionShape& shape, Tensor ds) const override {
    kernels::attention_scale_mask_backward(shape, ds);
  }
  void attention_scale_mask_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp,
                                             Tensor ds) const override {
    kernels::attention_scale_mask_softmax_backward(shape, p, dp, ds);
  }
  void attention_scores_backward(const AttentionShape& shape, ConstTensor ds, ConstTensor qkv,
                                 Tensor dqkv) const override {
    kernels::attention_scores_backward(shape, ds, qkv, dqkv);
  }
  void embedding_forward(const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor wte, ConstTensor wpe,
                         Tensor out) const override {
    kernels::embedding_forward(shape, ids, wte, wpe, out);
  }
  void embedding_backward(const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor dout, Tensor dwte,
                          Tensor dwpe) const override {
    kernels::embedding_backward(shape, ids, dout, dwte, dwpe);
  }
  void cross_entropy_stats(const CrossEntropyShape& shape, ConstTensor logits, const std::int32_t* targets,
                           Tensor stats) const override {
    kernels::cross_entropy_stats(shape, logits, targets, stats);
  }
  void cross_entropy_combine(std::int64_t rows, std::int64_t parts, ConstTensor stats, double scale, double* loss,
                             bool accumulate, Tensor row_stats) const override {
    kernels::cross_entropy_combine(rows, parts, stats, scale, loss, accumulate, row_stats);
  }
  void cross_entropy_backward(const CrossEntropyShape& shape, ConstTensor logits, const std::int32_t* targets,
                              ConstTensor row_stats, double scale, Tensor gradient,
                              const double* factor) const override {
    kernels::cross_entropy_backward(shape, logits, targets, row_stats, scale, gradient, factor);
  }
  void output_loss_forward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale,
                           double* loss) const override {
    kernels::output_loss_forward(kind, n, y, target, scale, loss);
  }
  void output_loss_backward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale, Tensor dy,
                            const double* factor) const override {
    kernels::output_loss_backward(kind, n, y, target, scale, dy, factor);
  }
  void squared_norm(ConstTensor x, std::int64_t n, double* sum, bool accumulate) const override {
    kernels::squared_norm(x, n, sum, accumulate);
  }
  void clip_coefficient(std::span<const double> sums, double clip, double* norm, double* coefficient,
                        const double* factor) const override {
    kernels::clip_coefficient(sums, clip, norm, coefficient, factor);
  }
  void update_loss_scale(const LossScaleRule& rule, const double* norm, LossScaleState* state) const override {
    kernels::update_loss_scale(rule, norm, state);
  }
  void lamb_update(const OptimizerStep& step, std::int64_t n, Tensor gradient, const double* coefficient,
                   ConstTensor parameter, Tensor m, Tensor v) const override {
    kernels::lamb_update(step, n, gradient, coefficient, parameter, m, v);
  }
  void lamb_step(std::int64_t n, double learning_rate, ConstTensor update, const double* weights, const double* updates,
                 Tensor parameter, Tensor copy) const override {
    kernels::lamb_step(n, learning_rate, update, weights, updates, parameter, copy);
  }
  void optimizer_step(const OptimizerStep& step, std::int64_t n, ConstTensor gradient, const double* coefficient,
                      Tensor parameter, Tensor m, Tensor v, Tensor copy) const override {
    kernels::optimizer_step(step, n, gradient, coefficient, parameter, m, v, copy);
  }
  void outer_step(const OuterStep& step, std::int64_t n, Tensor weights, Tensor anchor, Tensor momentum,
                  Tensor copy) const override {
    kernels::outer_step(step, n, weights, anchor, momentum, copy);
  }
  void gate_forward(const GateShape& shape, ConstTensor logits, Tensor scores, Tensor weights,
                    std::int32_t* chosen) const override {
    kernels::gate_forward(shape, logits, scores, weights, chosen);
  }
  void gate_backward(const GateShape& shape, ConstTensor scores, const std::int32_t* chosen, ConstTensor dweights,
                     double balance, const std::int32_t* counts, std::int64_t parts, Tensor dlogits) const override {
    kernels::gate_backward(shape, scores, chosen, dweights, balance, counts, parts, dlogits);
  }
  void route_count(std::int64_t rows, std::int64_t experts, std::int64_t capacity, const std::int32_t* chosen,
                   std::int32_t* place, std::int32_t* counts) const override {
    kernels::route_count(rows, experts, capacity, chosen, place, counts);
  }
  void route_arrange(std::int64_t rows, std::int64_t experts, std::int64_t members, const std::int32_t* counts,
                     const std::int32_t* arrived, std::int32_t* place, std::int32_t* offsets, std::int32_t* to,
                     std::int32_t* from) const override {
    kernels::route_arrange(rows, experts, members, counts, arrived, place, offsets, to, from);
  }
  void receive_rows(std::span<const ReceivedRows> members, std::int64_t index, std::int64_t row_bytes,
                    void* y) const override {
    kernels::receive_rows(members, index, row_bytes, y);
  }
  void permute_forward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor x,
                       const std::int32_t* place, Tensor y) const override {
    kernels::permute_forward(rows, copies, cols, x, place, y);
  }
  void permute_backward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor y,
                        const std::int32_t* place, Tensor x) const override {
    kernels::permute_backward(rows, copies, cols, y, place, x);
  }
  void grouped_forward(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor x, ConstTensor w,
                       Tensor y) const override {
    kernels::grouped_forward(shape, offsets, x, w, y);
  }
  void grouped_backward_input(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor dy, ConstTensor w,
                              Tensor dx) const override {
    kernels::grouped_backward_input(shape, offsets, dy, w, dx);
  }
  void grouped_backward_weight(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor dy, ConstTensor x,
                               Tensor dw) const override {
    kernels::grouped_backward_weight(shape, offsets, dy, x, dw);
  }
  void expert_bias_forward(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor bias,
                           ConstTensor weights, Tensor y) const override {
    kernels::expert_bias_forward(shape, offsets, bias, weights, y);
  }
  void expert_bias_backward_weights(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor dy,
                                    ConstTensor bias, Tensor dweights) const override {
    kernels::expert_bias_backward_weights(shape, offsets, dy, bias, dweights);
  }
  void expert_bias_gradient(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor dy,
                            ConstTensor weights, Tensor dbias) const override {
    kernels::expert_bias_gradient(shape, offsets, dy, weights, dbias);
  }
  void expert_activation_forward(Activation kind, std::int64_t rows, const std::int32_t* count, std::int64_t cols,
                                 ConstTensor x, ConstTensor weights, Tensor y) const override {
    kernels::expert_activation_forward(kind, rows_of(rows, count), cols, x, weights, y);
  }
  void expert_activation_backward(Activation kind, std::int64_t rows, const std::int32_t* count, std::int64_t cols,
                                  ConstTensor x, ConstTensor weights, ConstTensor dy, Tensor dx,
                                  Tensor dweights) const override {
    kernels::expert_activation_backward(kind, rows_of(rows, count), cols, x, weights, dy, dx, dweights);
  }
};

}  // namespace

const Launchers& cpu_launchers() {
  static const CpuLaunchers launchers;
  return launchers;
}

}  // namespace foretrain::kernels
