// Mixture of experts: what stands in place of the MLP of a layer.
//
//   s = router(W x), one score per expert; the top_k best are chosen by s + expert_bias;
//   y = sum over the chosen of w_e · expert_e(x)  +  g · shared(x)
//   w_e = weight_scale · s_e, divided by the sum of the chosen scores where weights are normalised.
// Experts are MLPs of ffn_hidden with the model's activation, and with `bias` have biases, as the router has; the
// shared experts, which have none, are one MLP of
// shared_experts · shared_ffn_hidden that every token passes; g is 1, or sigmoid(w · x) with a shared_gate.
#pragma once

#include <cstdint>
#include <string_view>

namespace foretrain::workloads {

// How logits become scores. softmax: over all experts (normalised weights are then the softmax over the chosen ones, as
// in Mixtral). sigmoid: each by itself (DeepSeek-V3).
enum class Router : std::uint8_t { softmax, sigmoid };
std::string_view name(Router r);

struct Moe {
  std::int64_t experts = 0;  // 0: no experts, every layer has an MLP
  std::int64_t top_k = 1;
  std::int64_t ffn_hidden = 0;  // of one expert
  bool bias = false;            // of the router's scores and of both products of each expert (gpt-oss)
  std::int64_t shared_experts = 0;
  std::int64_t shared_ffn_hidden = 0;  // of one shared expert
  bool shared_gate = false;            // one scalar per token, learned (Qwen2-MoE)
  Router router = Router::softmax;
  bool normalize_weights = true;
  double weight_scale = 1.0;
  bool expert_bias = false;  // added to scores where experts are chosen; no gradient trains it (it stays zero here)
  // Experts in so many equal groups, of which only the best are chosen from; a group's score is the sum of its two
  // best (DeepSeek-V3), or its best (group_best 1, DeepSeek-V2).
  std::int64_t groups = 1, top_groups = 1, group_best = 2;
  // Tokens that an expert takes from one rank and microbatch, as a multiple of the mean; further ones are dropped in
  // token order. 0: dropless.
  double capacity_factor = 0.0;
  // Coefficient of the load-balancing loss, experts · sum over experts of (share of tokens · mean score) per microbatch
  // (Fedus et al. 2021, arXiv:2101.03961, eq. 4 to 6). It acts on gradients; the reported loss is the cross entropy.
  double aux_loss = 0.0;
  // Layers with the model's MLP instead: the first so many, and of the others all but those whose number, counted from
  // 1, is a multiple of `every` (Llama 4's interleave_moe_layer_step, Qwen2-MoE's decoder_sparse_step).
  std::int64_t first_dense_layers = 0;
  std::int64_t every = 1;

  std::int64_t shared_width() const { return shared_experts * shared_ffn_hidden; }
};

}  // namespace foretrain::workloads
