#include "workloads/hf_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "workloads/hf_keys.h"
#include "workloads/model_file.h"
#include "workloads/moe_file.h"

namespace foretrain::workloads {

namespace {

using hf::boolean;
using hf::given;
using hf::integer;
using hf::kMax;
using hf::kMaxLayers;
using hf::number;

void refuse_if_set(ObjectReader& reader, const std::string& key) {
  if (boolean(reader, key, false)) {
    reader.mistake(key, "true is not built yet; expected false");
  }
}

// An activation by the names that the library gives it; `gated` maps it to the gated form.
Activation activation(ObjectReader& reader, const std::string& key, bool gated) {
  const std::string word = given(reader, key) ? reader.text(key, "") : gated ? "silu" : "gelu_new";
  const auto among = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), word) != names.end();
  };
  const bool tanh_gelu = among({"gelu_new", "gelu_pytorch_tanh", "gelu_fast"});
  if (gated && among({"silu", "swish"})) {
    return Activation::swiglu;
  }
  if (tanh_gelu) {
    return gated ? Activation::geglu : Activation::gelu;
  }
  if (!gated && among({"relu"})) {
    return Activation::relu;
  }
  if (!gated && among({"gelu"})) {
    return Activation::gelu_erf;
  }
  reader.mistake(key, fmt::format("\"{}\" is not built yet; built: {}", word,
                                  gated ? "silu, swish, gelu_new, gelu_pytorch_tanh, gelu_fast"
                                        : "gelu_new, gelu_pytorch_tanh, gelu_fast, gelu, relu"));
  return gated ? Activation::swiglu : Activation::gelu;
}

Model read_gpt2(ObjectReader& reader) {
  Model m;
  m.layers = reader.integer("n_layer", std::nullopt, 1, kMaxLayers);
  m.hidden = reader.integer("n_embd", std::nullopt, 1, kMax);
  m.heads = m.kv_heads = reader.integer("n_head", std::nullopt, 1, kMax);
  m.vocab = reader.integer("vocab_size", std::nullopt, 1, 10 * kMax);
  m.max_positions = integer(reader, "n_positions", 1024);
  m.ffn_hidden = integer(reader, "n_inner", 4 * m.hidden);
  m.activation = activation(reader, "activation_function", false);
  m.norm_eps = number(reader, "layer_norm_epsilon", 1e-5, 1e-12, 1);
  m.tied_embeddings = boolean(reader, "tie_word_embeddings", true);
  refuse_if_set(reader, "scale_attn_by_inverse_layer_idx");
  refuse_if_set(reader, "reorder_and_upcast_attn");
  refuse_if_set(reader, "add_cross_attention");
  return m;
}

// By the names that all but GPT-2 have.
void read_sizes(ObjectReader& reader, Model& m) {
  m.layers = reader.integer("num_hidden_layers", std::nullopt, 1, kMaxLayers);
  m.hidden = reader.integer("hidden_size", std::nullopt, 1, kMax);
  m.heads = m.kv_heads = reader.integer("num_attention_heads", std::nullopt, 1, kMax);
  m.ffn_hidden = reader.integer("intermediate_size", std::nullopt, 1, kMax);
  m.vocab = reader.integer("vocab_size", std::nullopt, 1, 10 * kMax);
}

// Id of [MASK] in every vocabulary that BERT was published with; the library's config.json does not say it.
constexpr std::int64_t kBertMask = 103;

// Of a model for sequence classification, which tells one class of each; two, where nothing says how many.
void read_classes(ObjectReader& reader, Model& m) {
  const nlohmann::json* const classes = reader.raw("architectures");
  if (classes == nullptr || *classes != nlohmann::json::array({"BertForSequenceClassification"})) {
    return;
  }
  m.head = Head::classifier;
  m.tied_embeddings = false;
  const nlohmann::json* const labels = reader.raw("id2label");
  m.classes = labels != nullptr && labels->is_object() ? std::ssize(*labels) : integer(reader, "num_labels", 2);
  if (m.classes < 2) {
    reader.mistake("", fmt::format("{} class; a regression is not built yet; expected 2 classes at least", m.classes));
  }
  if (given(reader, "problem_type") && reader.text("problem_type", "") != "single_label_classification") {
    reader.mistake("problem_type", "is not built yet; expected \"single_label_classification\"");
  }
}

Model read_bert(ObjectReader& reader) {
  Model m;
  m.architecture = Architecture::encoder;
  m.norm_position = NormPosition::post;
  m.embedding_norm = true;
  m.head = Head::masked_lm;
  read_sizes(reader, m);
  m.activation = given(reader, "hidden_act") ? activation(reader, "hidden_act", false) : Activation::gelu_erf;
  m.norm_eps = number(reader, "layer_norm_eps", 1e-12, 1e-12, 1);
  m.max_positions = integer(reader, "max_position_embeddings", 512);
  m.token_types = integer(reader, "type_vocab_size", 2);
  m.mask_token = given(reader, "mask_token_id") ? reader.integer("mask_token_id", kBertMask, 0, 10 * kMax)
                                                : std::min(kBertMask, std::max<std::int64_t>(1, m.vocab) - 1);
  m.tied_embeddings = boolean(reader, "tie_word_embeddings", true);
  read_classes(reader, m);
  if (given(reader, "position_embedding_type") && reader.text("position_embedding_type", "") != "absolute") {
    reader.mistake("position_embedding_type", "relative positions are not built yet; expected \"absolute\"");
  }
  refuse_if_set(reader, "is_decoder");
  refuse_if_set(reader, "add_cross_attention");
  return m;
}

// Both sides have a table of distances in their first layers, which the others share. Where the table of tokens is
// tied, the library scales what the head reads by 1/sqrt(d_model); here that is the last norm's gain.
Model read_t5(ObjectReader& reader) {
  Model m;
  m.architecture = Architecture::encoder_decoder;
  m.encoder_layers = reader.integer("num_layers", std::nullopt, 1, kMaxLayers);
  m.layers = m.encoder_layers + (given(reader, "num_decoder_layers")
                                     ? reader.integer("num_decoder_layers", std::nullopt, 1, kMaxLayers)
                                     : m.encoder_layers);
  m.hidden = reader.integer("d_model", std::nullopt, 1, kMax);
  m.heads = m.kv_heads = reader.integer("num_heads", std::nullopt, 1, kMax);
  m.head_dim = integer(reader, "d_kv", 64);
  m.ffn_hidden = reader.integer("d_ff", std::nullopt, 1, kMax);
  m.vocab = reader.integer("vocab_size", std::nullopt, 1, 10 * kMax);
  const std::string mlp = given(reader, "feed_forward_proj") ? reader.text("feed_forward_proj", "") : "relu";
  if (mlp != "relu" && mlp != "gated-gelu") {
    reader.mistake("feed_forward_proj", fmt::format("\"{}\" is not built yet; built: relu, gated-gelu", mlp));
  }
  m.activation = mlp == "relu" ? Activation::relu : Activation::geglu;
  m.norm = Norm::rmsnorm;
  m.norm_eps = number(reader, "layer_norm_epsilon", 1e-6, 1e-12, 1);
  m.positions = Positions::relative;
  m.scaled_scores = false;
  m.relative_buckets = integer(reader, "relative_attention_num_buckets", 32);
  m.relative_distance = integer(reader, "relative_attention_max_distance", 128);
  m.start_token =
      given(reader, "decoder_start_token_id") ? reader.integer("decoder_start_token_id", 0, 0, 10 * kMax) : 0;
  m.tied_embeddings = boolean(reader, "tie_word_embeddings", true);
  m.attention_bias = m.output_bias = m.mlp_bias = false;
  return m;
}

// What Llama has brought its kin: a gated activation, RMSNorm, rotary positions, a head of its own.
void read_as_llama(ObjectReader& reader, Model& m, double norm_eps, double rotary_base) {
  m.activation = activation(reader, "hidden_act", true);
  m.norm = Norm::rmsnorm;
  m.norm_eps = number(reader, "rms_norm_eps", norm_eps, 1e-12, 1);
  m.positions = Positions::rotary;
  m.rotary.base = number(reader, "rope_theta", rotary_base, 1, 1e12);
  m.tied_embeddings = boolean(reader, "tie_word_embeddings", false);
}

// GPT-NeoX and Pythia: both halves of a layer read x, each through a norm of its own, and a quarter of each head turns.
Model read_gpt_neox(ObjectReader& reader) {
  Model m;
  read_sizes(reader, m);
  m.activation = given(reader, "hidden_act") ? activation(reader, "hidden_act", false) : Activation::gelu_erf;
  m.norm_eps = number(reader, "layer_norm_eps", 1e-5, 1e-12, 1);
  m.positions = Positions::rotary;
  m.rotary.base = number(reader, "rotary_emb_base", 10000.0, 1, 1e12);
  const double share = number(reader, "rotary_pct", 0.25, 0, 1);
  m.rotary_dim = static_cast<std::int64_t>(static_cast<double>(m.hidden / std::max<std::int64_t>(1, m.heads)) * share);
  m.parallel_residual = boolean(reader, "use_parallel_residual", true);
  m.tied_embeddings = boolean(reader, "tie_word_embeddings", false);
  m.attention_bias = m.output_bias = boolean(reader, "attention_bias", true);
  return m;
}

// Which layers have the window: by a list that later versions of the library write, else qwen's by its own rule.
void read_window(ObjectReader& reader, Model& m, bool qwen) {
  m.attention_window = integer(reader, "sliding_window", 0);
  m.full_attention_first = qwen ? reader.integer("max_window_layers", 28, 0, kMaxLayers) : 0;
  if (const nlohmann::json* types = reader.raw("layer_types"); types != nullptr && types->is_array()) {
    const auto full = [&](std::size_t i) { return (*types)[i] == "full_attention"; };
    std::int64_t first = 0, every = 0;
    while (first < std::ssize(*types) && full(static_cast<std::size_t>(first))) {
      ++first;
    }
    for (auto i = static_cast<std::size_t>(first); every == 0 && i < types->size(); ++i) {
      every = full(i) ? static_cast<std::int64_t>(i) + 1 : 0;
    }
    m.full_attention_first = first;
    m.full_attention_every = every;
    for (std::int64_t i = 0; i < std::ssize(*types); ++i) {
      const bool is_full = m.attention_window == 0 || m.window(i, m.attention_window + 1) == 0;
      if (full(static_cast<std::size_t>(i)) != is_full) {
        reader.mistake("layer_types",
                       "is not built yet; built: some first layers with full_attention, then one in every "
                       "so many, the others with sliding_attention");
        break;
      }
    }
  }
  if (m.attention_window == 0 || m.full_attention_first >= m.layers || m.full_attention_every == 1) {
    m.attention_window = m.full_attention_first = m.full_attention_every = 0;
  }
}

// What gpt-oss has beyond its kin: sinks, a window in every second layer, biases throughout, a clamped activation.
void read_gpt_oss(ObjectReader& reader, Model& m) {
  m.head_dim = m.head_dim == 0 ? 64 : m.head_dim;
  m.attention_bias = m.output_bias = boolean(reader, "attention_bias", true);
  m.attention_sinks = true;
  if (number(reader, "swiglu_limit", 7, 0, 1e6) != 7) {
    reader.mistake("swiglu_limit", "is not built yet; expected 7");
  }
  m.activation = Activation::swiglu_clamped;
  if (!given(reader, "layer_types")) {
    m.attention_window = integer(reader, "sliding_window", 128);
    m.full_attention_every = 2;
  } else {
    read_window(reader, m, false);
  }
  m.moe.experts = reader.integer("num_local_experts", 128, 1, kMax);
  m.moe.top_k = integer(reader, "num_experts_per_tok", 4);
  m.moe.ffn_hidden = m.moe.shared_ffn_hidden = m.ffn_hidden;
  m.moe.bias = true;
  if (boolean(reader, "output_router_logits", false)) {
    m.moe.aux_loss = number(reader, "router_aux_loss_coef", 0.9, 0, 1e6);
  }
}

// Of the ways to scale frequencies Llama 3.1's; a forecast does not see the others, weights are refused with them.
void read_rope(ObjectReader rope, RotaryFrequencies& f) {
  f.base = number(rope, "rope_theta", f.base, 1, 1e12);
  const nlohmann::json* type = rope.raw(rope.has("rope_type") ? "rope_type" : "type");
  if (type != nullptr && *type == "llama3") {
    f.factor = rope.number("factor", std::nullopt, 1, 1e6);
    f.low = rope.number("low_freq_factor", std::nullopt, 0, 1e6);
    f.high = rope.number("high_freq_factor", std::nullopt, 0, 1e6);
    f.original_positions = rope.number("original_max_position_embeddings", std::nullopt, 1, 1e12);
    if (f.high <= f.low) {
      rope.mistake("high_freq_factor", "is no more than low_freq_factor");
    }
  }
}

// llama, mistral, qwen2, qwen3 and their kin with experts differ in biases, in the attention window and in experts.
Model read_llama_like(ObjectReader& reader, const std::string& type) {
  Model m;
  read_sizes(reader, m);
  m.kv_heads = integer(reader, "num_key_value_heads", m.heads);
  m.head_dim = integer(reader, "head_dim", 0);
  read_as_llama(reader, m, 1e-6, type == "gpt_oss" ? 150000.0 : 10000.0);
  for (const char* const key : {"rope_scaling", "rope_parameters"}) {  // the second since version 5 of the library
    if (const nlohmann::json* rope = reader.raw(key); rope != nullptr && rope->is_object()) {
      read_rope(reader.object(key), m.rotary);
    }
  }
  if (number(reader, "partial_rotary_factor", 1, 0, 1) != 1) {
    reader.mistake("partial_rotary_factor", "rotating a part of the head is not built yet; expected 1");
  }
  const bool qwen2 = type.starts_with("qwen2"), qwen3 = type.starts_with("qwen3");
  if (qwen3 && m.head_dim == 0) {
    m.head_dim = 128;
  }
  m.qk_norm = qwen3;
  m.attention_bias = qwen2 || ((type == "llama" || qwen3) && boolean(reader, "attention_bias", false));
  m.output_bias = m.attention_bias && !qwen2;
  m.mlp_bias = type == "llama" && boolean(reader, "mlp_bias", false);
  if (type == "gpt_oss") {
    read_gpt_oss(reader, m);
  }
  if (type == "mixtral" || type.ends_with("_moe")) {
    m.moe = hf::read_experts(reader, type, m.ffn_hidden);
  }
  if (type == "mistral" || type == "mixtral" || ((qwen2 || qwen3) && boolean(reader, "use_sliding_window", false))) {
    read_window(reader, m, qwen2 || qwen3);
  }
  return m;
}

// DeepSeek-V2 and V3, and Kimi-K2, which is V3 of another shape. Modules that predict further tokens
// (num_nextn_predict_layers) are left out, as the library leaves them out.
Model read_deepseek(ObjectReader& reader, const std::string& type) {
  Model m;
  read_sizes(reader, m);
  read_as_llama(reader, m, 1e-6, 10000.0);
  refuse_if_set(reader, "attention_bias");
  m.attention_bias = m.output_bias = m.mlp_bias = false;
  hf::read_latent_attention(reader, m);
  m.moe = hf::read_experts(reader, type, m.ffn_hidden);
  return m;
}

// Bamba: Mamba-2 mixers with an MLP behind each, attention in few layers; of a head a half is rotated.
Model read_bamba(ObjectReader& reader) {
  Model m;
  read_sizes(reader, m);
  m.kv_heads = integer(reader, "num_key_value_heads", m.heads);
  read_as_llama(reader, m, 1e-5, 10000.0);
  const double share = number(reader, "partial_rotary_factor", 0.5, 0, 1);
  const std::int64_t head_dim = m.hidden / std::max<std::int64_t>(1, m.heads);
  m.rotary_dim = integer(reader, "attn_rotary_emb", static_cast<std::int64_t>(static_cast<double>(head_dim) * share));
  for (const char* key : {"attention_bias", "mlp_bias", "mamba_proj_bias"}) {
    refuse_if_set(reader, key);
  }
  m.attention_bias = m.output_bias = m.mlp_bias = false;
  m.ssm = hf::read_state_space(reader, m.hidden, m.layers);
  return m;
}

}  // namespace

bool is_hf_config(const JsonDocument& document) {
  return document.root().is_object() &&
         (document.root().contains("model_type") || document.root().contains("architectures"));
}

Model import_hf_config(const JsonDocument& document, Mistakes& mistakes, std::vector<std::string>* unread) {
  ObjectReader reader(document, mistakes);
  const std::size_t before = mistakes.count();
  const std::string type =
      reader.word("model_type", std::nullopt,
                  {"bert", "t5", "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe",
                   "qwen3_moe", "deepseek_v2", "deepseek_v3", "kimi_k2", "gpt_oss", "bamba"},
                  {"roberta", "gptj", "opt", "bloom", "falcon", "mpt", "phi", "phi3", "gemma", "gemma2", "gemma3",
                   "olmo", "olmo2", "starcoder2", "cohere", "llama4", "nemotron_h"});
  if (mistakes.count() != before) {
    Model none;  // its keys are another type's: nothing more can be judged
    none.layers = none.hidden = none.heads = none.kv_heads = none.head_dim = none.ffn_hidden = none.vocab = 1;
    none.max_positions = 1;
    return none;
  }
  const bool deepseek = type.starts_with("deepseek") || type == "kimi_k2";
  Model m = type == "gpt2"       ? read_gpt2(reader)
            : type == "bert"     ? read_bert(reader)
            : type == "t5"       ? read_t5(reader)
            : type == "gpt_neox" ? read_gpt_neox(reader)
            : deepseek           ? read_deepseek(reader, type)
            : type == "bamba"    ? read_bamba(reader)
                                 : read_llama_like(reader, type);
  m.name = document.origin();
  if (m.head_dim == 0) {
    if (m.hidden % m.heads != 0) {
      reader.mistake("", fmt::format("{} heads do not divide the hidden size {}", m.heads, m.hidden));
    }
    m.head_dim = std::max<std::int64_t>(1, m.hidden / m.heads);
  }
  if (m.rotary_dim == 0) {
    m.rotary_dim = m.head_dim;
  }
  check_model(m, reader);
  check_moe(m.moe, m.layers, reader);
  if (unread != nullptr) {
    *unread = reader.unread();
  }
  return m;
}

}  // namespace foretrain::workloads
