#include "workloads/hf_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace foretrain::workloads::hf {

bool given(ObjectReader& reader, const std::string& key) {
  const nlohmann::json* value = reader.raw(key);
  return value != nullptr && !value->is_null();
}

std::int64_t integer(ObjectReader& reader, const std::string& key, std::int64_t fallback) {
  return given(reader, key) ? reader.integer(key, fallback, 1, kMax) : fallback;
}

double number(ObjectReader& reader, const std::string& key, double fallback, double low, double high) {
  return given(reader, key) ? reader.number(key, fallback, low, high) : fallback;
}

bool boolean(ObjectReader& reader, const std::string& key, bool fallback) {
  return given(reader, key) ? reader.boolean(key, fallback) : fallback;
}

namespace {

void expect(ObjectReader& reader, const std::string& key, std::int64_t fallback, std::int64_t built, const char* what) {
  if (const std::int64_t value = integer(reader, key, fallback); value != built) {
    reader.mistake(key, fmt::format("{}: {} is not built yet; expected {}", what, value, built));
  }
}

// The first layers may have an MLP; others may not.
std::int64_t dense_layers(ObjectReader& reader) {
  if (!given(reader, "mlp_only_layers")) {
    return 0;
  }
  const std::vector<std::int64_t> dense = reader.integers("mlp_only_layers", 0);
  for (std::size_t i = 0; i < dense.size(); ++i) {
    if (dense[i] != static_cast<std::int64_t>(i)) {
      reader.mistake("mlp_only_layers", "other layers than the first without experts are not built yet");
      break;
    }
  }
  return std::ssize(dense);
}

void read_qwen(ObjectReader& reader, const std::string& type, Moe& moe) {
  const bool qwen2 = type == "qwen2_moe";
  moe.experts = reader.integer("num_experts", qwen2 ? 60 : 128, 1, kMax);
  moe.top_k = reader.integer("num_experts_per_tok", qwen2 ? 4 : 8, 1, kMax);
  moe.ffn_hidden = moe.shared_ffn_hidden = reader.integer("moe_intermediate_size", qwen2 ? 1408 : 768, 1, kMax);
  moe.normalize_weights = boolean(reader, "norm_topk_prob", false);
  if (qwen2) {
    moe.shared_experts = 1;
    moe.shared_ffn_hidden = integer(reader, "shared_expert_intermediate_size", 5632);
    moe.shared_gate = true;
  }
  moe.every = integer(reader, "decoder_sparse_step", 1);
  moe.first_dense_layers = dense_layers(reader);
}

// The third generation chooses by sigmoids and a bias, the second by a softmax, groups of both by their best experts.
void read_deepseek(ObjectReader& reader, const std::string& type, Moe& moe) {
  const bool third = type != "deepseek_v2";
  moe.experts = reader.integer("n_routed_experts", std::nullopt, 1, kMax);
  moe.top_k = reader.integer("num_experts_per_tok", std::nullopt, 1, kMax);
  moe.ffn_hidden = moe.shared_ffn_hidden = reader.integer("moe_intermediate_size", std::nullopt, 1, kMax);
  moe.shared_experts = given(reader, "n_shared_experts") ? reader.integer("n_shared_experts", 0, 0, kMax) : 0;
  moe.router = third ? Router::sigmoid : Router::softmax;
  moe.expert_bias = third;
  moe.normalize_weights = boolean(reader, "norm_topk_prob", third);
  moe.weight_scale = number(reader, "routed_scaling_factor", third ? 2.5 : 1.0, 1e-6, 1e6);
  const std::string method = given(reader, "topk_method") ? reader.text("topk_method", "")
                             : third                      ? "noaux_tc"
                                                          : "greedy";
  if (third ? method != "noaux_tc" : method != "greedy" && method != "group_limited_greedy") {
    reader.mistake("topk_method", fmt::format("\"{}\" is not built yet; built: {}", method,
                                              third ? "noaux_tc" : "greedy, group_limited_greedy"));
  }
  if (method != "greedy") {
    moe.groups = integer(reader, "n_group", 1);
    moe.top_groups = integer(reader, "topk_group", moe.groups);
    moe.group_best = third ? 2 : 1;
  }
  expect(reader, "moe_layer_freq", 1, 1, "experts in every n-th layer");
  moe.first_dense_layers =
      given(reader, "first_k_dense_replace") ? reader.integer("first_k_dense_replace", 0, 0, kMaxLayers) : 0;
}

}  // namespace

Moe read_experts(ObjectReader& reader, const std::string& type, std::int64_t ffn_hidden) {
  Moe moe;
  if (type == "mixtral") {
    moe.experts = reader.integer("num_local_experts", 8, 1, kMax);
    moe.top_k = reader.integer("num_experts_per_tok", 2, 1, kMax);
    moe.ffn_hidden = moe.shared_ffn_hidden = ffn_hidden;
  } else if (type.starts_with("qwen")) {
    read_qwen(reader, type, moe);
  } else {
    read_deepseek(reader, type, moe);
  }
  if (boolean(reader, "output_router_logits", false)) {
    moe.aux_loss = number(reader, "router_aux_loss_coef", 0.001, 0, 1e6);
  }
  return moe;
}

void read_latent_attention(ObjectReader& reader, Model& m) {
  m.mla.q_rank = integer(reader, "q_lora_rank", 0);  // null: q comes straight from the layer's input
  m.mla.kv_rank = reader.integer("kv_lora_rank", 512, 1, kMax);
  m.mla.nope_dim = reader.integer("qk_nope_head_dim", 128, 1, kMax);
  m.mla.rope_dim = reader.integer("qk_rope_head_dim", 64, 2, kMax);
  m.mla.v_dim = reader.integer("v_head_dim", 128, 1, kMax);
  m.head_dim = m.mla.nope_dim + m.mla.rope_dim;
}

Ssm read_state_space(ObjectReader& reader, std::int64_t hidden, std::int64_t layers) {
  Ssm s;
  s.heads = integer(reader, "mamba_n_heads", 128);
  const bool stated = given(reader, "mamba_d_head") && reader.raw("mamba_d_head")->is_number();  // else "auto"
  s.head_dim = stated ? integer(reader, "mamba_d_head", 64)
                      : std::max<std::int64_t>(1, integer(reader, "mamba_expand", 2) * hidden / s.heads);
  s.state = integer(reader, "mamba_d_state", 256);
  s.groups = integer(reader, "mamba_n_groups", 1);
  s.conv = integer(reader, "mamba_d_conv", 4);
  s.chunk = integer(reader, "mamba_chunk_size", 256);
  if (s.heads % s.groups != 0) {
    reader.mistake("mamba_n_groups", fmt::format("{} do not divide {} heads", s.groups, s.heads));
  }
  if (given(reader, "mamba_conv_bias") && !reader.boolean("mamba_conv_bias", true)) {
    reader.mistake("mamba_conv_bias", "false is not built yet; expected true");
  }
  if (given(reader, "attn_layer_indices")) {
    s.attention_layers = reader.integers("attn_layer_indices", 0);
    for (std::size_t i = 0; i < s.attention_layers.size(); ++i) {
      if (s.attention_layers[i] >= layers || (i > 0 && s.attention_layers[i] <= s.attention_layers[i - 1])) {
        reader.mistake("attn_layer_indices", fmt::format("{} is not allowed; expected rising numbers below {}",
                                                         s.attention_layers[i], layers));
        break;
      }
    }
  }
  return s;
}

}  // namespace foretrain::workloads::hf
