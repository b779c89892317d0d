// What a launcher requires of its arguments, on whatever machine it runs. Each function takes those of the launcher of
// its name, and throws InternalError where they are not what kernels.h allows: which launcher, what stood there, what
// is allowed. Addresses are not followed.
#pragma once

#include "kernels/kernels.h"

namespace foretrain::kernels::arguments {

decltype(kernels::matmul) matmul;
decltype(kernels::matmul_gelu) matmul_gelu;
decltype(kernels::matmul_gelu_backward) matmul_gelu_backward;
decltype(kernels::norm_forward) norm_forward;
decltype(kernels::norm_backward_input) norm_backward_input;
decltype(kernels::norm_backward_weight) norm_backward_weight;
decltype(kernels::head_norm_forward) head_norm_forward;
decltype(kernels::head_norm_backward_input) head_norm_backward_input;
decltype(kernels::head_norm_backward_weight) head_norm_backward_weight;
decltype(kernels::activation_forward) activation_forward;
decltype(kernels::activation_backward) activation_backward;
decltype(kernels::residual_add) residual_add;
decltype(kernels::bias_gradient) bias_gradient;
decltype(kernels::fill) fill;
decltype(kernels::cast) cast;
decltype(kernels::add) add;
decltype(kernels::sum_in_order) sum_in_order;
decltype(kernels::encode) encode;
decltype(kernels::decode) decode;
decltype(kernels::rotary_forward) rotary_forward;
decltype(kernels::rotary_backward) rotary_backward;
decltype(kernels::attention_forward) attention_forward;
decltype(kernels::attention_backward) attention_backward;
decltype(kernels::attention_part_forward) attention_part_forward;
decltype(kernels::attention_part_backward) attention_part_backward;
decltype(kernels::attention_rows_forward) attention_rows_forward;
decltype(kernels::attention_rows_backward) attention_rows_backward;
decltype(kernels::relative_bias_forward) relative_bias_forward;
decltype(kernels::relative_bias_backward) relative_bias_backward;
decltype(kernels::attention_merge) attention_merge;
decltype(kernels::attention_sinks_forward) attention_sinks_forward;
decltype(kernels::attention_sinks_backward) attention_sinks_backward;
decltype(kernels::attention_scores) attention_scores;
decltype(kernels::attention_context) attention_context;
decltype(kernels::attention_context_backward) attention_context_backward;
decltype(kernels::attention_scores_backward) attention_scores_backward;
decltype(kernels::attention_scale_mask) attention_scale_mask;
decltype(kernels::attention_softmax) attention_softmax;
decltype(kernels::attention_scale_mask_softmax) attention_scale_mask_softmax;
decltype(kernels::attention_softmax_backward) attention_softmax_backward;
decltype(kernels::attention_scale_mask_backward) attention_scale_mask_backward;
decltype(kernels::attention_scale_mask_softmax_backward) attention_scale_mask_softmax_backward;
decltype(kernels::copy_matrix) copy_matrix;
decltype(kernels::latent_heads_forward) latent_heads_forward;
decltype(kernels::latent_heads_backward) latent_heads_backward;
decltype(kernels::embedding_forward) embedding_forward;
decltype(kernels::embedding_backward) embedding_backward;
decltype(kernels::cross_entropy_stats) cross_entropy_stats;
decltype(kernels::cross_entropy_combine) cross_entropy_combine;
decltype(kernels::cross_entropy_backward) cross_entropy_backward;
decltype(kernels::output_loss_forward) output_loss_forward;
decltype(kernels::output_loss_backward) output_loss_backward;
decltype(kernels::squared_norm) squared_norm;
decltype(kernels::optimizer_step) optimizer_step;
decltype(kernels::outer_step) outer_step;
decltype(kernels::lamb_update) lamb_update;
decltype(kernels::lamb_step) lamb_step;
decltype(kernels::init_normal) init_normal;
decltype(kernels::init_uniform) init_uniform;
decltype(kernels::gate_forward) gate_forward;
decltype(kernels::gate_backward) gate_backward;
decltype(kernels::permute_forward) permute_forward;
decltype(kernels::permute_backward) permute_backward;
decltype(kernels::grouped_forward) grouped_forward;
decltype(kernels::grouped_backward_input) grouped_backward_input;
decltype(kernels::grouped_backward_weight) grouped_backward_weight;
decltype(kernels::expert_bias_forward) expert_bias_forward;
decltype(kernels::expert_bias_backward_weights) expert_bias_backward_weights;
decltype(kernels::expert_bias_gradient) expert_bias_gradient;
decltype(kernels::expert_activation_forward) expert_activation_forward;
decltype(kernels::expert_activation_backward) expert_activation_backward;

}  // namespace foretrain::kernels::arguments
