// The kernels as what carries out ops calls them: of this processor, or of a GPU in a stream.
//
// Each function is the one of kernels.h or moe.h of its name, and under its rules, but that of a GPU: addresses are its
// own, sums, tables and counts among them, and it returns when the kernel is in the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace foretrain::kernels {

class Launchers {
 public:
  virtual ~Launchers() = default;

  // A number of this thread's, or stream's, own, for what one kernel tells the next.
  virtual double* scalar() const = 0;
  // Of a GPU: from now on kernels of the optimizer do nothing where this number is 0 when they run; nullptr: they do.
  virtual void set_guard(const double* guard) const = 0;
  // to = from. Of a GPU either may be memory of the host's.
  virtual void copy(const void* from, void* to, std::int64_t bytes) const = 0;

  virtual void matmul(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
                      bool accumulate) const = 0;

  virtual void matmul_gelu(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor x,
                           Tensor y) const = 0;
  virtual void matmul_gelu_backward(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor x,
                                    Tensor dx) const = 0;

  virtual void norm_forward(const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y,
                            Tensor mean, Tensor rstd) const = 0;
  virtual void norm_backward_input(const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor dy,
                                   ConstTensor mean, ConstTensor rstd, ConstTensor base, Tensor dx) const = 0;
  virtual void norm_backward_weight(const NormShape& shape, ConstTensor x, ConstTensor dy, ConstTensor mean,
                                    ConstTensor rstd, Tensor dgain, Tensor dbias, bool accumulate) const = 0;
  virtual void head_norm_forward(const HeadNormShape& shape, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv,
                                 Tensor raw) const = 0;
  virtual void head_norm_backward_input(const HeadNormShape& shape, ConstTensor raw, ConstTensor q_gain,
                                        ConstTensor k_gain, Tensor dqkv) const = 0;
  virtual void head_norm_backward_weight(const HeadNormShape& shape, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                                         Tensor dk_gain) const = 0;

  virtual void activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                                  Tensor y) const = 0;
  virtual void activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, ConstTensor dy,
                                   Tensor dx) const = 0;
  virtual void residual_add(std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias,
                            Tensor y) const = 0;
  virtual void bias_gradient(std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db,
                             bool accumulate) const = 0;
  virtual void fill(Tensor x, std::int64_t n, double value) const = 0;
  virtual void cast(ConstTensor src, Tensor dst, std::int64_t n) const = 0;
  virtual void add(ConstTensor src, Tensor dst, std::int64_t n) const = 0;
  virtual void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies,
                            std::int64_t n) const = 0;
  virtual void encode(const Code& code, ConstTensor x, Tensor residual, void* coded) const = 0;
  virtual void decode(const Code& code, std::int64_t parts, const void* coded, Tensor x) const = 0;
  virtual void copy_matrix(std::int64_t rows, std::int64_t cols, ConstTensor src, std::int64_t ld_src, Tensor dst,
                           std::int64_t ld_dst) const = 0;

  virtual void rotary_forward(const AttentionShape& shape, std::int64_t rotary_dim,
                              const RotaryFrequencies& frequencies, std::int64_t position_offset, Tensor qkv) const = 0;
  virtual void rotary_backward(const AttentionShape& shape, std::int64_t rotary_dim,
                               const RotaryFrequencies& frequencies, std::int64_t position_offset,
                               Tensor dqkv) const = 0;
  virtual void latent_heads_forward(const LatentHeadsShape& shape, const RotaryFrequencies& frequencies, ConstTensor q,
                                    ConstTensor kv, ConstTensor k_rope, Tensor qkv) const = 0;
  virtual void latent_heads_backward(const LatentHeadsShape& shape, const RotaryFrequencies& frequencies,
                                     ConstTensor dqkv, Tensor dq, Tensor dkv, Tensor dk_rope) const = 0;

  virtual void attention_forward(const AttentionShape& shape, ConstTensor qkv, Tensor o, Tensor lse) const = 0;
  virtual void attention_backward(const AttentionShape& shape, ConstTensor qkv, ConstTensor o, ConstTensor lse,
                                  ConstTensor d_o, Tensor dqkv) const = 0;
  virtual void attention_part_forward(const AttentionShape& shape, const AttentionPart& part, ConstTensor qkv,
                                      ConstTensor kv, Tensor o, Tensor lse) const = 0;
  virtual void attention_part_backward(const AttentionShape& shape, const AttentionPart& part, ConstTensor qkv,
                                       ConstTensor kv, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv,
                                       Tensor dkv, bool add_to_dq) const = 0;
  virtual void attention_merge(const AttentionShape& shape, std::int64_t parts, ConstTensor o_parts,
                               ConstTensor lse_parts, Tensor o, Tensor lse) const = 0;
  virtual void attention_rows_forward(const AttentionShape& shape, const AttentionRows& rows, ConstTensor q,
                                      ConstTensor kv, ConstTensor bias, Tensor o, Tensor lse) const = 0;
  virtual void attention_rows_backward(const AttentionShape& shape, const AttentionRows& rows, ConstTensor q,
                                       ConstTensor kv, ConstTensor bias, ConstTensor o, ConstTensor lse,
                                       ConstTensor d_o, Tensor dq, Tensor dkv, Tensor d_bias) const = 0;
  virtual void relative_bias_forward(const RelativeBiasShape& shape, ConstTensor table, Tensor bias) const = 0;
  virtual void relative_bias_backward(const RelativeBiasShape& shape, ConstTensor d_bias, Tensor d_table) const = 0;
  virtual void attention_sinks_forward(const AttentionShape& shape, ConstTensor sinks, Tensor o, Tensor lse) const = 0;
  virtual void attention_sinks_backward(const AttentionShape& shape, ConstTensor sinks, ConstTensor o, ConstTensor lse,
                                        ConstTensor d_o, Tensor d_sinks) const = 0;

  virtual void attention_scores(const AttentionShape& shape, ConstTensor qkv, Tensor s) const = 0;
  virtual void attention_scale_mask(const AttentionShape& shape, Tensor s) const = 0;
  virtual void attention_softmax(const AttentionShape& shape, ConstTensor s, Tensor p) const = 0;
  virtual void attention_scale_mask_softmax(const AttentionShape& shape, ConstTensor s, Tensor p) const = 0;
  virtual void attention_context(const AttentionShape& shape, ConstTensor p, ConstTensor qkv, Tensor o) const = 0;

  virtual void attention_context_backward(const AttentionShape& shape, ConstTensor p, ConstTensor qkv, ConstTensor d_o,
                                          Tensor dp, Tensor dqkv) const = 0;
  virtual void attention_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp,
                                          Tensor ds) const = 0;
  virtual void attention_scale_mask_backward(const AttentionShape& shape, Tensor ds) const = 0;
  virtual void attention_scale_mask_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp,
                                                     Tensor ds) const = 0;
  virtual void attention_scores_backward(const AttentionShape& shape, ConstTensor ds, ConstTensor qkv,
                                         Tensor dqkv) const = 0;

  virtual void embedding_forward(const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor wte, ConstTensor wpe,
                                 Tensor out) const = 0;
  virtual void embedding_backward(const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor dout, Tensor dwte,
                                  Tensor dwpe) const = 0;
  virtual void cross_entropy_stats(const CrossEntropyShape& shape, ConstTensor logits, const std::int32_t* targets,
                                   Tensor stats) const = 0;
  virtual void cross_entropy_combine(std::int64_t rows, std::int64_t parts, ConstTensor stats, double scale,
                                     double* loss, bool accumulate, Tensor row_stats) const = 0;
  virtual void cross_entropy_backward(const CrossEntropyShape& shape, ConstTensor logits, const std::int32_t* targets,
                                      ConstTensor row_stats, double scale, Tensor gradient,
                                      const double* factor) const = 0;

  virtual void output_loss_forward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale,
                                   double* loss) const = 0;
  virtual void output_loss_backward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale,
                                    Tensor dy, const double* factor) const = 0;
  virtual void squared_norm(ConstTensor x, std::int64_t n, double* sum, bool accumulate) const = 0;
  virtual void clip_coefficient(std::span<const double> sums, double clip, double* norm, double* coefficient,
                                const double* factor) const = 0;
  virtual void update_loss_scale(const LossScaleRule& rule, const double* norm, LossScaleState* state) const = 0;
  virtual void optimizer_step(const OptimizerStep& step, std::int64_t n, ConstTensor gradient,
                              const double* coefficient, Tensor parameter, Tensor m, Tensor v, Tensor copy) const = 0;
  virtual void lamb_update(const OptimizerStep& step, std::int64_t n, Tensor gradient, const double* coefficient,
                           ConstTensor parameter, Tensor m, Tensor v) const = 0;
  virtual void lamb_step(std::int64_t n, double learning_rate, ConstTensor update, const double* weights,
                         const double* updates, Tensor parameter, Tensor copy) const = 0;

  virtual void outer_step(const OuterStep& step, std::int64_t n, Tensor weights, Tensor anchor, Tensor momentum,
                          Tensor copy) const = 0;

  virtual void gate_forward(const GateShape& shape, ConstTensor logits, Tensor scores, Tensor weights,
                            std::int32_t* chosen) const = 0;
  virtual void gate_backward(const GateShape& shape, ConstTensor scores, const std::int32_t* chosen,
                             ConstTensor dweights, double balance, const std::int32_t* counts, std::int64_t parts,
                             Tensor dlogits) const = 0;
  virtual void route_count(std::int64_t rows, std::int64_t experts, std::int64_t capacity, const std::int32_t* chosen,
                           std::int32_t* place, std::int32_t* counts) const = 0;
  virtual void route_arrange(std::int64_t rows, std::int64_t experts, std::int64_t members, const std::int32_t* counts,
                             const std::int32_t* arrived, std::int32_t* place, std::int32_t* offsets, std::int32_t* to,
                             std::int32_t* from) const = 0;
  virtual void receive_rows(std::span<const ReceivedRows> members, std::int64_t index, std::int64_t row_bytes,
                            void* y) const = 0;
  virtual void permute_forward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor x,
                               const std::int32_t* place, Tensor y) const = 0;
  virtual void permute_backward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor y,
                                const std::int32_t* place, Tensor x) const = 0;

  virtual void grouped_forward(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor x, ConstTensor w,
                               Tensor y) const = 0;
  virtual void grouped_backward_input(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor dy,
                                      ConstTensor w, Tensor dx) const = 0;
  virtual void grouped_backward_weight(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor dy,
                                       ConstTensor x, Tensor dw) const = 0;
  virtual void expert_bias_forward(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor bias,
                                   ConstTensor weights, Tensor y) const = 0;
  virtual void expert_bias_backward_weights(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor dy,
                                            ConstTensor bias, Tensor dweights) const = 0;
  virtual void expert_bias_gradient(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor dy,
                                    ConstTensor weights, Tensor dbias) const = 0;

  // Of the first *count rows, where there is a count, else of all.
  virtual void expert_activation_forward(Activation kind, std::int64_t rows, const std::int32_t* count,
                                         std::int64_t cols, ConstTensor x, ConstTensor weights, Tensor y) const = 0;
  virtual void expert_activation_backward(Activation kind, std::int64_t rows, const std::int32_t* count,
                                          std::int64_t cols, ConstTensor x, ConstTensor weights, ConstTensor dy,
                                          Tensor dx, Tensor dweights) const = 0;
};

const Launchers& cpu_launchers();

}  // namespace foretrain::kernels
