// The launchers of kernels.h and moe.h on a GPU, those of products and attention apart (matmul.h, attention.h): same
// names, shapes and results, under the same rules, but that
//  * they put their work in a stream, and return; all addresses are device memory's: numbers, tables and counts too;
//  * sums over rows, and the log of a sum, may be added up in another order, the same each time.
// A stream's workspace is used by one launcher at a time.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

void norm_forward(const Stream& stream, const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor bias,
                  Tensor y, Tensor mean, Tensor rstd);
void norm_backward_input(const Stream& stream, const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor dy,
                         ConstTensor mean, ConstTensor rstd, ConstTensor base, Tensor dx);
void norm_backward_weight(const Stream& stream, const NormShape& shape, ConstTensor x, ConstTensor dy, ConstTensor mean,
                          ConstTensor rstd, Tensor dgain, Tensor dbias, bool accumulate);

void head_norm_forward(const Stream& stream, const HeadNormShape& shape, ConstTensor q_gain, ConstTensor k_gain,
                       Tensor qkv, Tensor raw);
void head_norm_backward_input(const Stream& stream, const HeadNormShape& shape, ConstTensor raw, ConstTensor q_gain,
                              ConstTensor k_gain, Tensor dqkv);
void head_norm_backward_weight(const Stream& stream, const HeadNormShape& shape, ConstTensor raw, ConstTensor dqkv,
                               Tensor dq_gain, Tensor dk_gain);

void activation_forward(const Stream& stream, Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                        Tensor y);
void activation_backward(const Stream& stream, Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                         ConstTensor dy, Tensor dx);
void residual_add(const Stream& stream, std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b,
                  ConstTensor bias, Tensor y);
void bias_gradient(const Stream& stream, std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db,
                   bool accumulate);
void fill(const Stream& stream, Tensor x, std::int64_t n, double value);
void cast(const Stream& stream, ConstTensor src, Tensor dst, std::int64_t n);
void add(const Stream& stream, ConstTensor src, Tensor dst, std::int64_t n);
constexpr std::int64_t kMostSources = 256;  // and as many results
void sum_in_order(const Stream& stream, std::span<const ConstTensor> sources, Tensor dst,
                  std::span<const Tensor> copies, std::int64_t n);
void encode(const Stream& stream, const Code& code, ConstTensor x, Tensor residual, void* coded);
constexpr std::int64_t kMostCoded = std::int64_t{1} << 31;  // of top_k: tables in the workspace
void decode(const Stream& stream, const Code& code, std::int64_t parts, const void* coded, Tensor x);
void copy_matrix(const Stream& stream, std::int64_t rows, std::int64_t cols, ConstTensor src, std::int64_t ld_src,
                 Tensor dst, std::int64_t ld_dst);

void rotary_forward(const Stream& stream, const AttentionShape& shape, std::int64_t rotary_dim,
                    const RotaryFrequencies& frequencies, std::int64_t position_offset, Tensor qkv);
void rotary_backward(const Stream& stream, const AttentionShape& shape, std::int64_t rotary_dim,
                     const RotaryFrequencies& frequencies, std::int64_t position_offset, Tensor dqkv);
void latent_heads_forward(const Stream& stream, const LatentHeadsShape& shape, const RotaryFrequencies& frequencies,
                          ConstTensor q, ConstTensor kv, ConstTensor k_rope, Tensor qkv);
void latent_heads_backward(const Stream& stream, const LatentHeadsShape& shape, const RotaryFrequencies& frequencies,
                           ConstTensor dqkv, Tensor dq, Tensor dkv, Tensor dk_rope);

constexpr std::int64_t kMostBuckets = 512;  // of a side
void relative_bias_forward(const Stream& stream, const RelativeBiasShape& shape, ConstTensor table, Tensor bias);
void relative_bias_backward(const Stream& stream, const RelativeBiasShape& shape, ConstTensor d_bias, Tensor d_table);

void embedding_forward(const Stream& stream, const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor wte,
                       ConstTensor wpe, Tensor out);
void embedding_backward(const Stream& stream, const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor dout,
                        Tensor dwte, Tensor dwpe);

void cross_entropy_stats(const Stream& stream, const CrossEntropyShape& shape, ConstTensor logits,
                         const std::int32_t* targets, Tensor stats);
void cross_entropy_combine(const Stream& stream, std::int64_t rows, std::int64_t parts, ConstTensor stats, double scale,
                           double* loss, bool accumulate, Tensor row_stats);
void cross_entropy_backward(const Stream& stream, const CrossEntropyShape& shape, ConstTensor logits,
                            const std::int32_t* targets, ConstTensor row_stats, double scale, Tensor gradient,
                            const double* factor = nullptr);

void output_loss_forward(const Stream& stream, OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target,
                         double scale, double* loss);
void output_loss_backward(const Stream& stream, OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target,
                          double scale, Tensor dy, const double* factor = nullptr);
void squared_norm(const Stream& stream, ConstTensor x, std::int64_t n, double* sum, bool accumulate);
void clip_coefficient(const Stream& stream, std::span<const double> sums, double clip, double* norm,
                      double* coefficient, const double* factor = nullptr);
void update_loss_scale(const Stream& stream, const LossScaleRule& rule, const double* norm, LossScaleState* state);
void lamb_update(const Stream& stream, const OptimizerStep& step, std::int64_t n, Tensor gradient,
                 const double* coefficient, ConstTensor parameter, Tensor m, Tensor v);
void lamb_step(const Stream& stream, std::int64_t n, double learning_rate, ConstTensor update, const double* weights,
               const double* updates, Tensor parameter, Tensor copy);
void optimizer_step(const Stream& stream, const OptimizerStep& step, std::int64_t n, ConstTensor gradient,
                    const double* coefficient, Tensor parameter, Tensor m, Tensor v, Tensor copy);

void outer_step(const Stream& stream, const OuterStep& step, std::int64_t n, Tensor weights, Tensor anchor,
                Tensor momentum, Tensor copy);

// The CPU's values, up to the rounding of a logarithm, a sine and a cosine in fp64.
void init_normal(const Stream& stream, const InitShape& shape, double standard_deviation, Tensor x);
void init_uniform(const Stream& stream, const InitShape& shape, double low, double high, Tensor x);

// A score that is no number is chosen after all others.
void gate_forward(const Stream& stream, const GateShape& shape, ConstTensor logits, Tensor scores, Tensor weights,
                  std::int32_t* chosen);
void gate_backward(const Stream& stream, const GateShape& shape, ConstTensor scores, const std::int32_t* chosen,
                   ConstTensor dweights, double balance, const std::int32_t* counts, std::int64_t parts,
                   Tensor dlogits);
void route_count(const Stream& stream, std::int64_t rows, std::int64_t experts, std::int64_t capacity,
                 const std::int32_t* chosen, std::int32_t* place, std::int32_t* counts);
// More than `rows` that arrive end the launch with an error.
void route_arrange(const Stream& stream, std::int64_t rows, std::int64_t experts, std::int64_t members,
                   const std::int32_t* counts, const std::int32_t* arrived, std::int32_t* place, std::int32_t* offsets,
                   std::int32_t* to, std::int32_t* from);
constexpr std::int64_t kMostSenders = 128;
void receive_rows(const Stream& stream, std::span<const ReceivedRows> members, std::int64_t index,
                  std::int64_t row_bytes, void* y);
void permute_forward(const Stream& stream, std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor x,
                     const std::int32_t* place, Tensor y);
void permute_backward(const Stream& stream, std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor y,
                      const std::int32_t* place, Tensor x);

void grouped_forward(const Stream& stream, const GroupedShape& shape, const std::int32_t* offsets, ConstTensor x,
                     ConstTensor w, Tensor y);
void grouped_backward_input(const Stream& stream, const GroupedShape& shape, const std::int32_t* offsets,
                            ConstTensor dy, ConstTensor w, Tensor dx);
void grouped_backward_weight(const Stream& stream, const GroupedShape& shape, const std::int32_t* offsets,
                             ConstTensor dy, ConstTensor x, Tensor dw);

void expert_bias_forward(const Stream& stream, const ExpertBiasShape& shape, const std::int32_t* offsets,
                         ConstTensor bias, ConstTensor weights, Tensor y);
void expert_bias_backward_weights(const Stream& stream, const ExpertBiasShape& shape, const std::int32_t* offsets,
                                  ConstTensor dy, ConstTensor bias, Tensor dweights);
void expert_bias_gradient(const Stream& stream, const ExpertBiasShape& shape, const std::int32_t* offsets,
                          ConstTensor dy, ConstTensor weights, Tensor dbias);

// Of the first *count rows where there is a count, else of all `rows`.
void expert_activation_forward(const Stream& stream, Activation kind, std::int64_t rows, const std::int32_t* count,
                               std::int64_t cols, ConstTensor x, ConstTensor weights, Tensor y);
void expert_activation_backward(const Stream& stream, Activation kind, std::int64_t rows, const std::int32_t* count,
                                std::int64_t cols, ConstTensor x, ConstTensor weights, ConstTensor dy, Tensor dx,
                                Tensor dweights);

}  // namespace foretrain::kernels::cuda
