// The other direction of hf_config.cpp.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "workloads/hf_config.h"
#include "workloads/hf_weights.h"
#include "workloads/model_file.h"

namespace foretrain::workloads {

namespace {

using Json = nlohmann::ordered_json;

std::string nearest_type(const Model& m) {
  if (m.is_encoder()) {
    return "bert";
  }
  if (m.is_encoder_decoder()) {
    return "t5";
  }
  if (m.has_mla()) {
    return m.moe.router == Router::sigmoid ? "deepseek_v3" : "deepseek_v2";
  }
  if (m.norm == Norm::layernorm) {
    return m.positions == Positions::learned ? "gpt2" : "gpt_neox";
  }
  const bool qwen2_bias = m.attention_bias && !m.output_bias;
  if (m.attention_sinks) {
    return "gpt_oss";
  }
  if (m.moe.experts > 0) {
    return m.qk_norm ? "qwen3_moe" : qwen2_bias || m.moe.shared_gate ? "qwen2_moe" : "mixtral";
  }
  return m.qk_norm ? "qwen3" : qwen2_bias ? "qwen2" : m.attention_window > 0 ? "mistral" : "llama";
}

const char* architecture(const std::string& type) {
  return type == "bert"          ? "BertForMaskedLM"
         : type == "t5"          ? "T5ForConditionalGeneration"
         : type == "gpt2"        ? "GPT2LMHeadModel"
         : type == "gpt_neox"    ? "GPTNeoXForCausalLM"
         : type == "gpt_oss"     ? "GptOssForCausalLM"
         : type == "mistral"     ? "MistralForCausalLM"
         : type == "mixtral"     ? "MixtralForCausalLM"
         : type == "qwen2"       ? "Qwen2ForCausalLM"
         : type == "qwen3"       ? "Qwen3ForCausalLM"
         : type == "qwen2_moe"   ? "Qwen2MoeForCausalLM"
         : type == "qwen3_moe"   ? "Qwen3MoeForCausalLM"
         : type == "deepseek_v2" ? "DeepseekV2ForCausalLM"
         : type == "deepseek_v3" ? "DeepseekV3ForCausalLM"
                                 : "LlamaForCausalLM";
}

const char* activation_word(Activation a) {
  switch (a) {
    case Activation::gelu: return "gelu_new";
    case Activation::gelu_erf: return "gelu";
    case Activation::relu: return "relu";
    case Activation::sigmoid: return "sigmoid";
    case Activation::tanh: return "tanh";
    case Activation::geglu: return "gelu_pytorch_tanh";
    case Activation::swiglu:
    case Activation::swiglu_clamped: return "silu";
  }
  return "";
}

const char* dtype_word(Dtype d) {
  switch (d) {
    case Dtype::fp64: return "float64";
    case Dtype::fp16: return "float16";
    case Dtype::bf16: return "bfloat16";
    default: return "float32";
  }
}

void write_gpt2(const Model& m, Json& c) {
  c["n_layer"] = m.layers;
  c["n_embd"] = m.hidden;
  c["n_head"] = m.heads;
  c["n_inner"] = m.ffn_hidden;
  c["n_positions"] = m.max_positions;
  c["activation_function"] = activation_word(m.activation);
  c["layer_norm_epsilon"] = m.norm_eps;
}

void write_bert(const Model& m, Json& c) {
  c["layer_norm_eps"] = m.norm_eps;
  c["type_vocab_size"] = m.token_types;
  c["max_position_embeddings"] = m.max_positions;
  c["position_embedding_type"] = "absolute";
  if (m.is_classifier()) {
    for (std::int64_t i = 0; i < m.classes; ++i) {
      const std::string label = fmt::format("LABEL_{}", i);
      c["id2label"][std::to_string(i)] = label;
      c["label2id"][label] = i;
    }
  }
  c["mask_token_id"] = m.mask_token;  // ignored by the library, which has it in the tokenizer's files
}

void write_t5(const Model& m, Json& c) {
  c["d_model"] = m.hidden;
  c["d_kv"] = m.head_dim;
  c["d_ff"] = m.ffn_hidden;
  c["num_layers"] = m.encoder_layers;
  c["num_decoder_layers"] = m.decoder_layers();
  c["num_heads"] = m.heads;
  c["feed_forward_proj"] = is_gated(m.activation) ? "gated-gelu" : "relu";
  c["layer_norm_epsilon"] = m.norm_eps;
  c["relative_attention_num_buckets"] = m.relative_buckets;
  c["relative_attention_max_distance"] = m.relative_distance;
  c["decoder_start_token_id"] = c["pad_token_id"] = m.start_token;
  c["is_encoder_decoder"] = true;
}

void write_sizes(const Model& m, std::int64_t max_positions, Json& c) {
  c["num_hidden_layers"] = m.layers;
  c["hidden_size"] = m.hidden;
  c["num_attention_heads"] = m.heads;
  c["intermediate_size"] = m.ffn_hidden;
  c["max_position_embeddings"] = max_positions;
  c["hidden_act"] = activation_word(m.activation);
}

void write_neox(const Model& m, Json& c) {
  c["layer_norm_eps"] = m.norm_eps;
  c["rotary_emb_base"] = m.rotary.base;
  c["rotary_pct"] = static_cast<double>(m.rotary_dim) / static_cast<double>(m.head_dim);
  c["use_parallel_residual"] = m.parallel_residual;
  c["attention_bias"] = m.attention_bias;
}

// A list of the layers says any pattern, in every family that has windows.
void write_window(const Model& m, const std::string& type, Json& c) {
  const bool qwen = type.starts_with("qwen");
  if (qwen) {
    c["use_sliding_window"] = m.attention_window > 0;
  }
  if (m.attention_window == 0) {
    c["sliding_window"] = nullptr;
    return;
  }
  c["sliding_window"] = m.attention_window;
  if (qwen) {
    c["max_window_layers"] = m.full_attention_first;
  }
  if (m.full_attention_first > 0 || m.full_attention_every > 0) {
    Json types = Json::array();
    for (std::int64_t i = 0; i < m.layers; ++i) {
      types.push_back(m.window(i, m.attention_window + 1) == 0 ? "full_attention" : "sliding_attention");
    }
    c["layer_types"] = types;
  }
}

void write_latents(const Model& m, Json& c) {
  c["q_lora_rank"] = m.mla.q_rank > 0 ? Json(m.mla.q_rank) : Json(nullptr);
  c["kv_lora_rank"] = m.mla.kv_rank;
  c["qk_nope_head_dim"] = m.mla.nope_dim;
  c["qk_rope_head_dim"] = m.mla.rope_dim;
  c["v_head_dim"] = m.mla.v_dim;
}

void write_experts(const Model& m, const std::string& type, Json& c) {
  const Moe& moe = m.moe;
  c["num_experts_per_tok"] = moe.top_k;
  if (type == "mixtral" || type == "gpt_oss") {
    c["num_local_experts"] = moe.experts;
    c["intermediate_size"] = moe.ffn_hidden;
    return;
  }
  c["moe_intermediate_size"] = moe.ffn_hidden;
  c["norm_topk_prob"] = moe.normalize_weights;
  if (type.starts_with("qwen")) {
    c["num_experts"] = moe.experts;
    c["decoder_sparse_step"] = moe.every;
    Json dense = Json::array();
    for (std::int64_t i = 0; i < moe.first_dense_layers; ++i) {
      dense.push_back(i);
    }
    c["mlp_only_layers"] = dense;
    if (type == "qwen2_moe") {
      c["shared_expert_intermediate_size"] = moe.shared_width();
    }
    return;
  }
  c["n_routed_experts"] = moe.experts;
  c["n_shared_experts"] = moe.shared_experts;
  c["routed_scaling_factor"] = moe.weight_scale;
  c["first_k_dense_replace"] = moe.first_dense_layers;
  c["moe_layer_freq"] = 1;
  const bool third = type == "deepseek_v3";
  c["topk_method"] = third ? "noaux_tc" : moe.groups > 1 ? "group_limited_greedy" : "greedy";
  c["n_group"] = moe.groups;
  c["topk_group"] = moe.top_groups;
}

void write_llama_like(const Model& m, const std::string& type, Json& c) {
  c["num_key_value_heads"] = m.kv_heads;
  if (!m.has_mla()) {
    c["head_dim"] = m.head_dim;
  }
  c["rms_norm_eps"] = m.norm_eps;
  c["rope_theta"] = m.rotary.base;
  c["rope_scaling"] = nullptr;  // absent, it is no scaling in every family but gpt_oss
  if (m.rotary.are_scaled()) {
    c["rope_scaling"] = {{"rope_type", "llama3"},
                         {"factor", m.rotary.factor},
                         {"low_freq_factor", m.rotary.low},
                         {"high_freq_factor", m.rotary.high},
                         {"original_max_position_embeddings", m.rotary.original_positions}};
  }
  if (type == "llama" || type == "qwen3" || type == "qwen3_moe" || type == "gpt_oss") {
    c["attention_bias"] = m.attention_bias;
  }
  if (type == "llama") {
    c["mlp_bias"] = m.mlp_bias;
  }
  if (m.has_mla()) {
    write_latents(m, c);
  } else if (type != "llama") {
    write_window(m, type, c);
  }
  if (m.moe.experts > 0) {
    write_experts(m, type, c);
  }
}

Json config_of(const Model& m, const std::string& type, std::int64_t max_positions) {
  Json c{{"architectures", {m.is_classifier() ? "BertForSequenceClassification" : architecture(type)}},
         {"model_type", type},
         {"vocab_size", m.vocab}};
  if (type == "gpt2") {
    write_gpt2(m, c);
  } else if (type == "t5") {
    write_t5(m, c);
  } else {
    write_sizes(m, max_positions, c);
    type == "bert" ? write_bert(m, c) : type == "gpt_neox" ? write_neox(m, c) : write_llama_like(m, type, c);
  }
  c["tie_word_embeddings"] = m.tied_embeddings;
  return c;
}

// What the model computes, as it would stand in a file.
nlohmann::json compared(const Model& m) {
  nlohmann::json json = to_json(m);
  json.erase("name");
  json.erase("mask_token");
  if (json.contains("moe")) {
    for (const char* key : {"capacity_factor", "aux_loss"}) {
      json["moe"].erase(key);
    }
    if (m.moe.groups == 1) {
      json["moe"].erase("group_best");
    }
    if (m.moe.shared_experts == 0) {
      json["moe"].erase("shared_ffn_hidden");
    }
    if (m.dense_layers() == 0) {
      json.erase("ffn_hidden");
    }
  }
  if (m.positions != Positions::rotary) {
    json.erase("rotary_base");
    json.erase("rotary_scaling");
    json.erase("rotary_dim");
  }
  if (m.positions != Positions::learned) {
    json.erase("max_positions");
  }
  return json;
}

std::string difference(const nlohmann::json& there, const nlohmann::json& here, const std::string& at) {
  if (there.is_object() && here.is_object()) {
    nlohmann::json keys = there;
    keys.update(here);
    for (const auto& [key, unused] : keys.items()) {
      const nlohmann::json a = there.value(key, nlohmann::json()), b = here.value(key, nlohmann::json());
      if (std::string what = difference(a, b, at.empty() ? key : at + "." + key); !what.empty()) {
        return what;
      }
    }
    return "";
  }
  return there == here ? "" : fmt::format("{} is {} there and {} here", at, shown(there), shown(here));
}

}  // namespace

std::string model_difference(const Model& there, const Model& here) {
  return difference(compared(there), compared(here), "");
}

std::string hf_model_type(const Model& model) {
  if (model.ssm.heads > 0) {
    throw InputError("weights: of models with state-space layers they are not built");
  }
  if (model.is_dense()) {
    throw InputError(fmt::format("weights: the transformers library has no {} models", name(model.architecture)));
  }
  const std::string type = nearest_type(model);
  const JsonDocument document = JsonDocument::from_text(config_of(model, type, 1).dump(), "config.json of " + type);
  Mistakes mistakes;
  const Model again = import_hf_config(document, mistakes);
  const std::string what = mistakes.empty() ? model_difference(again, model) : mistakes.messages().front();
  if (!what.empty()) {
    throw InputError(
        fmt::format("weights: no model type of the transformers library has this model; the nearest one, "
                    "{}, differs: {}",
                    type, what));
  }
  return type;
}

nlohmann::ordered_json hf_config(const Model& model, std::int64_t max_positions, Dtype dtype) {
  Json config = config_of(model, hf_model_type(model), max_positions);
  config["torch_dtype"] = dtype_word(dtype);
  return config;
}

}  // namespace foretrain::workloads
