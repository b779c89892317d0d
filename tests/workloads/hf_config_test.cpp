#include "workloads/hf_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/catalogue.h"
#include "tests/support/message_of.h"
#include "workloads/hf_weights.h"
#include "workloads/model_file.h"

namespace foretrain::workloads {
namespace {

using test::message_of;

Model import(const std::string& text) {
  const JsonDocument document = JsonDocument::from_text(text, "config.json");
  EXPECT_TRUE(is_hf_config(document));
  Mistakes mistakes;
  Model m = import_hf_config(document, mistakes);
  mistakes.throw_if_any();
  return m;
}

// The shaping keys of the published configurations; totals as the transformers library counts the checkpoints.
struct Published {
  const char* name;
  const char* config;
  std::int64_t parameters;
  friend std::ostream& operator<<(std::ostream& out, const Published& p) { return out << p.name; }
};

const Published kPublished[] = {
    {"gpt2",
     R"({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024,
         "n_ctx": 1024, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "n_inner": null})",
     124'439'808},
    {"gpt2_xl",
     R"({"model_type": "gpt2", "n_layer": 48, "n_embd": 1600, "n_head": 25, "vocab_size": 50257, "n_positions": 1024})",
     1'557'611'200},
    {"llama2_7b",
     R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
         "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false})",
     6'738'415'616},
    {"llama2_70b",
     R"({"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
         "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 32000, "hidden_act": "silu"})",
     68'976'648'192},
    {"llama3_1_405b",
     R"({"model_type": "llama", "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
         "num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": 128256, "hidden_act": "silu",
         "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
         "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "mlp_bias": false})",
     405'853'388'800},
    {"llama3_2_1b",
     R"({"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
         "tie_word_embeddings": true})",
     1'235'814'400},
    {"tinyllama_1_1b",
     R"({"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
         "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000})",
     1'100'048'384},
    {"mistral_7b_v0_1",
     R"({"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "sliding_window": 4096})",
     7'241'732'096},
    {"qwen2_7b",
     R"({"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
         "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "use_sliding_window": false,
         "sliding_window": 131072, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06})",
     7'615'616'512},
    {"qwen2_0_5b",
     R"({"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
         "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true})",
     494'032'768},
    {"gpt_neox_20b",
     R"({"model_type": "gpt_neox", "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 44,
         "num_attention_heads": 64, "vocab_size": 50432, "hidden_act": "gelu_fast", "rotary_pct": 0.25,
         "use_parallel_residual": true, "tie_word_embeddings": false, "layer_norm_eps": 1e-05})",
     20'554'567'680},
    {"pythia_160m",
     R"({"model_type": "gpt_neox", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_attention_heads": 12, "vocab_size": 50304, "hidden_act": "gelu", "rotary_pct": 0.25})",
     162'322'944},
    {"qwen3_0_6b",
     R"({"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
         "tie_word_embeddings": true, "rope_theta": 1000000})",
     596'049'920},
    {"qwen3_8b",
     R"({"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
         "tie_word_embeddings": false, "attention_bias": false, "use_sliding_window": false})",
     8'190'735'360},
    {"qwen3_30b_a3b",
     R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
         "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
         "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "decoder_sparse_step": 1,
         "mlp_only_layers": [], "vocab_size": 151936, "rope_theta": 1000000.0, "sliding_window": null,
         "tie_word_embeddings": false})",
     30'532'122'624},
    {"qwen3_235b_a22b",
     R"({"model_type": "qwen3_moe", "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536,
         "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128,
         "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "vocab_size": 151936})",
     235'093'634'560},
    {"qwen1_5_moe_a2_7b",
     R"({"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "moe_intermediate_size": 1408,
         "shared_expert_intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16,
         "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "norm_topk_prob": false,
         "vocab_size": 151936, "sliding_window": 32768, "use_sliding_window": false})",
     14'315'784'192},
    {"deepseek_v2_lite",
     R"({"model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
         "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "n_routed_experts": 64,
         "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
         "topk_method": "greedy", "n_group": 1, "topk_group": 1, "norm_topk_prob": false, "routed_scaling_factor": 1.0,
         "q_lora_rank": null, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "vocab_size": 102400})",
     15'706'484'224},
    {"deepseek_v2",
     R"({"model_type": "deepseek_v2", "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536,
         "num_hidden_layers": 60, "num_attention_heads": 128, "num_key_value_heads": 128, "n_routed_experts": 160,
         "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "topk_method":
         "group_limited_greedy", "n_group": 8, "topk_group": 3, "norm_topk_prob": false, "routed_scaling_factor": 16.0,
         "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "vocab_size": 102400})",
     235'741'434'880},
    {"deepseek_v3",  // its 671 billion; with the module that predicts a second token the checkpoint has 685
     R"({"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
         "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "n_routed_experts": 256,
         "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "topk_method": "noaux_tc",
         "n_group": 8, "topk_group": 4, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
         "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "rope_scaling": {"type": "yarn"}})",
     671'026'419'200},
    {"mixtral_8x7b",
     R"({"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
         "num_experts_per_tok": 2, "rope_theta": 1000000.0, "output_router_logits": false,
         "router_aux_loss_coef": 0.02, "sliding_window": null})",
     46'702'792'704},
    {"gpt_oss_20b",
     R"({"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
         "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088,
         "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "swiglu_limit": 7.0,
         "rope_theta": 150000, "hidden_act": "silu", "attention_bias": true})",
     20'914'757'184},
};

class HfConfig : public testing::TestWithParam<Published> {};

TEST_P(HfConfig, HasThePublishedTotal) {
  EXPECT_EQ(total_parameters(import(GetParam().config)), GetParam().parameters);
}

INSTANTIATE_TEST_SUITE_P(Published, HfConfig, testing::ValuesIn(kPublished),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(HfConfigFields, AreTheModelsOwn) {
  const Model mistral = import(kPublished[7].config);
  EXPECT_EQ(mistral.attention_window, 4096);
  EXPECT_EQ(mistral.norm, Norm::rmsnorm);
  EXPECT_EQ(mistral.norm_eps, 1e-6);  // the library's default
  EXPECT_EQ(mistral.positions, Positions::rotary);
  const Model qwen = import(kPublished[8].config);
  EXPECT_TRUE(qwen.attention_bias);
  EXPECT_FALSE(qwen.output_bias);
  EXPECT_EQ(qwen.attention_window, 0);  // not used
  EXPECT_EQ(qwen.rotary.base, 1e6);
  const Model neox = import(kPublished[10].config);
  EXPECT_TRUE(neox.parallel_residual);
  EXPECT_FALSE(neox.shared_norm);
  EXPECT_EQ(neox.rotary_dim, 24);  // a quarter of 96
  EXPECT_EQ(neox.activation, Activation::gelu);
  EXPECT_EQ(import(kPublished[11].config).activation, Activation::gelu_erf);
  const Model qwen3 = import(kPublished[12].config);
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.attention_bias || qwen3.output_bias);
  EXPECT_EQ(qwen3.head_dim, 128);  // not 1024 / 16
  const Model gpt2 = import(kPublished[0].config);
  EXPECT_EQ(gpt2.ffn_hidden, 3072);  // n_inner null: four times n_embd
  EXPECT_EQ(gpt2.max_positions, 1024);
  EXPECT_TRUE(gpt2.tied_embeddings);
  EXPECT_EQ(import(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
                      "num_attention_heads": 4, "vocab_size": 8, "rope_parameters": {"rope_theta": 5000.0}})")
                .rotary.base,
            5000);
}

// As Llama-3.1-8B has it; other ways are not read.
TEST(HfConfigFields, RotaryScaling) {
  const auto scaled = [](const std::string& type) {
    return import(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
"num_attention_heads": 4, "vocab_size": 8, "rope_theta": 500000.0, "rope_scaling": {"factor": 8.0,
"low_freq_factor": 1.5, "high_freq_factor": 4.5, "original_max_position_embeddings": 4096, "rope_type": ")" +
                  type + "\"}}")
        .rotary;
  };
  RotaryFrequencies expected(500000.0);
  EXPECT_EQ(scaled("yarn"), expected);
  expected.factor = 8.0;
  expected.low = 1.5;
  expected.high = 4.5;
  expected.original_positions = 4096;
  EXPECT_EQ(scaled("llama3"), expected);
}

TEST(HfConfigFields, OfExperts) {
  const auto imported = [](std::string_view name) {
    const auto* const row =
        std::find_if(std::begin(kPublished), std::end(kPublished), [&](const Published& p) { return p.name == name; });
    return import(row->config);
  };
  const Model v3 = imported("deepseek_v3");
  EXPECT_EQ(v3.moe.router, Router::sigmoid);
  EXPECT_TRUE(v3.moe.expert_bias && v3.moe.normalize_weights);
  EXPECT_EQ(v3.moe.weight_scale, 2.5);
  EXPECT_EQ(v3.moe.groups, 8);
  EXPECT_EQ(v3.moe.top_groups, 4);
  EXPECT_EQ(v3.moe.group_best, 2);
  EXPECT_EQ(v3.moe.first_dense_layers, 3);
  EXPECT_EQ(v3.head_dim, 128 + 64);
  EXPECT_EQ(active_parameters(v3), 37'552'297'472);  // "37B activated"
  const Model v2 = imported("deepseek_v2");
  EXPECT_EQ(v2.moe.router, Router::softmax);
  EXPECT_FALSE(v2.moe.expert_bias || v2.moe.normalize_weights);
  EXPECT_EQ(v2.moe.group_best, 1);
  const Model lite = imported("deepseek_v2_lite");
  EXPECT_EQ(lite.moe.groups, 1);  // greedy
  EXPECT_EQ(lite.mla.q_rank, 0);
  const Model qwen2 = imported("qwen1_5_moe_a2_7b");
  EXPECT_TRUE(qwen2.moe.shared_gate);
  EXPECT_TRUE(qwen2.attention_bias && !qwen2.output_bias);
  EXPECT_EQ(qwen2.attention_window, 0);
  EXPECT_EQ(imported("qwen3_30b_a3b").qk_norm, true);
}

// Qwen2 windows the layers from max_window_layers on; a list may say the same, or that every second layer has one.
TEST(HfConfigFields, WhichLayersHaveAWindow) {
  const auto model = [](const std::string& keys) {
    return import(R"({"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4,
                      "num_attention_heads": 4, "vocab_size": 8, "use_sliding_window": true, "sliding_window": 16)" +
                  keys + "}");
  };
  const auto windows = [](const Model& m) {
    std::vector<std::int64_t> all;
    for (std::int64_t layer = 0; layer < m.layers; ++layer) {
      all.push_back(m.window(layer, 100));
    }
    return all;
  };
  using Windows = std::vector<std::int64_t>;
  EXPECT_EQ(windows(model(R"(, "max_window_layers": 3)")), (Windows{0, 0, 0, 16}));
  EXPECT_EQ(model("").attention_window, 0);  // from layer 28 on
  EXPECT_EQ(windows(model(R"(, "layer_types": ["sliding_attention", "full_attention", "sliding_attention",
                                               "full_attention"])")),
            (Windows{16, 0, 16, 0}));
  EXPECT_EQ(windows(model(R"(, "layer_types": ["full_attention", "sliding_attention", "sliding_attention",
                                               "sliding_attention"])")),
            (Windows{0, 16, 16, 16}));
  EXPECT_EQ(model(R"(, "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"])")
                .attention_window,
            0);
  EXPECT_EQ(message_of([&] {
              model(R"(, "layer_types": ["sliding_attention", "full_attention", "full_attention",
                                         "sliding_attention"])");
            }).substr(0, 55),
            "config.json:2: /layer_types: is not built yet; built: s");
}

TEST(HfConfigFields, OfGptOss) {
  const Model m =
      import(R"({"model_type": "gpt_oss", "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 4,
                             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 8,
                             "num_local_experts": 4, "layer_types": ["sliding_attention", "full_attention",
                             "sliding_attention", "full_attention"], "sliding_window": 16})");
  EXPECT_EQ(m.head_dim, 64);
  EXPECT_EQ(m.activation, Activation::swiglu_clamped);
  EXPECT_TRUE(m.attention_sinks && m.attention_bias && m.output_bias && m.moe.bias);
  EXPECT_EQ(m.window(0, 100), 16);
  EXPECT_EQ(m.window(1, 100), 0);
  EXPECT_EQ(m.moe.experts, 4);
  EXPECT_EQ(m.moe.top_k, 4);
  EXPECT_EQ(m.rotary.base, 150000);
}

TEST(HfConfigFields, ExpertsInEverySecondLayer) {
  const Model m = import(R"({"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 64,
"num_hidden_layers": 7, "num_attention_heads": 4, "vocab_size": 8, "num_experts": 4, "num_experts_per_tok": 2,
"moe_intermediate_size": 8, "decoder_sparse_step": 2, "mlp_only_layers": [0, 1]})");
  EXPECT_EQ(m.moe_layers(), 2);  // 3 and 5
  EXPECT_FALSE(m.has_experts(1));
  EXPECT_FALSE(m.has_experts(2));
  EXPECT_TRUE(m.has_experts(3));
  EXPECT_FALSE(m.has_experts(6));
}

// As ibm-fms/Bamba-9B has it: the catalogue's model.
TEST(HfConfigFields, OfBamba) {
  const Model m = import(R"({"model_type": "bamba", "hidden_size": 4096, "intermediate_size": 14336,
"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
"attn_layer_indices": [9, 18, 27], "attn_rotary_emb": 64, "mamba_d_head": "auto", "mamba_d_state": 128,
"mamba_expand": 2, "mamba_n_heads": 128, "mamba_conv_bias": true, "mamba_proj_bias": false, "hidden_act": "silu",
"rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": false})");
  EXPECT_EQ(m.ssm.head_dim, 64);
  EXPECT_EQ(m.rotary_dim, 64);
  EXPECT_TRUE(m.ssm.has_layer(8));
  EXPECT_FALSE(m.ssm.has_layer(9));
  EXPECT_EQ(total_parameters(m), 9'780'235'392);
  EXPECT_EQ(message_of([] {
              import(R"({"model_type": "bamba", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
"num_attention_heads": 4, "vocab_size": 8, "mamba_n_heads": 8, "attn_layer_indices": [2], "mamba_proj_bias": true})");
            }),
            "config.json:2: /mamba_proj_bias: true is not built yet; expected false\n"
            "config.json:2: /attn_layer_indices: 2 is not allowed; expected rising numbers below 2");
}

// bert-large-uncased's own.
TEST(HfConfig, Bert) {
  const Model m = import(R"({"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 1024, "initializer_range": 0.02,
"intermediate_size": 4096, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
"num_attention_heads": 16, "num_hidden_layers": 24, "pad_token_id": 0, "position_embedding_type": "absolute",
"type_vocab_size": 2, "use_cache": true, "vocab_size": 30522})");
  const Model catalogue = load_model(catalogue_path(kModelFolder, "model", "bert-large"));
  EXPECT_EQ(model_difference(m, catalogue), "");
  EXPECT_EQ(m.mask_token, catalogue.mask_token);
  EXPECT_EQ(message_of([] {
              import(R"({"model_type": "bert", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
"num_attention_heads": 4, "vocab_size": 8, "position_embedding_type": "relative_key", "is_decoder": true})");
            }),
            "config.json:2: /position_embedding_type: relative positions are not built yet; expected \"absolute\"\n"
            "config.json:2: /is_decoder: true is not built yet; expected false");
}

// As the library writes it of three classes; what it writes of two, it leaves out.
TEST(HfConfig, BertForSequences) {
  const std::string shape = R"("model_type": "bert", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
"num_attention_heads": 4, "vocab_size": 8, "architectures": ["BertForSequenceClassification"])";
  const Model two = import("{" + shape + "}");
  EXPECT_TRUE(two.is_classifier() && !two.tied_embeddings);
  EXPECT_EQ(two.classes, 2);
  const Model three = import("{" + shape + R"(, "id2label": {"0": "a", "1": "b", "2": "c"}})");
  EXPECT_EQ(three.classes, 3);
  const auto written = hf_config(three, 1, Dtype::fp32);
  EXPECT_EQ(written["architectures"][0], "BertForSequenceClassification");
  EXPECT_EQ(written["id2label"].size(), 3u);
  EXPECT_EQ(written["label2id"]["LABEL_2"], 2);
  EXPECT_EQ(message_of([&] { import("{" + shape + R"(, "num_labels": 1, "problem_type": "regression"})"); }),
            "config.json:1: /: 1 class; a regression is not built yet; expected 2 classes at least\n"
            "config.json:2: /problem_type: is not built yet; expected \"single_label_classification\"");
}

// t5-base's own, and a gated one of version 1.1 without ties and with a shorter decoder; both written and read again.
TEST(HfConfig, T5) {
  const Model m = import(R"({"architectures": ["T5ForConditionalGeneration"], "d_ff": 3072, "d_kv": 64, "d_model": 768,
"decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0,
"is_encoder_decoder": true, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_heads": 12,
"num_layers": 12, "output_past": true, "pad_token_id": 0, "relative_attention_num_buckets": 32, "vocab_size": 32128})");
  EXPECT_EQ(model_difference(m, load_model(catalogue_path(kModelFolder, "model", "t5-base"))), "");
  EXPECT_EQ(hf_config(m, 1, Dtype::fp32)["feed_forward_proj"], "relu");
  const Model gated = import(R"({"model_type": "t5", "d_ff": 1024, "d_model": 512, "num_layers": 8,
"num_decoder_layers": 4, "num_heads": 6, "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
"tie_word_embeddings": false})");
  EXPECT_EQ(gated.layers, 12);
  EXPECT_EQ(gated.encoder_layers, 8);
  EXPECT_EQ(gated.activation, Activation::geglu);
  EXPECT_FALSE(gated.tied_embeddings);
  EXPECT_EQ(hf_config(gated, 1, Dtype::fp32)["num_decoder_layers"], 4);
  EXPECT_EQ(message_of([] {
              import(R"({"model_type": "t5", "d_ff": 1024, "d_model": 512, "num_layers": 8, "num_heads": 6,
"vocab_size": 32128, "feed_forward_proj": "gated-silu"})");
            }),
            "config.json:2: /feed_forward_proj: \"gated-silu\" is not built yet; built: relu, gated-gelu");
}

TEST(HfConfigMistakes, OtherModelTypesAreRefusedByName) {
  EXPECT_EQ(
      message_of([] { import(R"({"model_type": "roberta", "hidden_size": 4096, "num_hidden_layers": 32})"); }),
      "config.json:1: /model_type: \"roberta\" is not built yet; built: bert, t5, gpt2, gpt_neox, llama, mistral, "
      "mixtral, qwen2, qwen3, qwen2_moe, qwen3_moe, deepseek_v2, deepseek_v3, kimi_k2, gpt_oss, bamba");
  EXPECT_EQ(message_of([] { import(R"({"model_type": "lama"})"); }),
            "config.json:1: /model_type: \"lama\" is not allowed; did you mean \"llama\"? "
            "expected one of: bert, t5, gpt2, gpt_neox, llama, mistral, mixtral, qwen2, qwen3, qwen2_moe, "
            "qwen3_moe, deepseek_v2, deepseek_v3, kimi_k2, gpt_oss, bamba");
  EXPECT_EQ(message_of([] {
              import(R"({"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4,
"num_attention_heads": 4, "vocab_size": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8,
"decoder_sparse_step": 2,
"mlp_only_layers": [0, 2]})");
            }),
            "config.json:4: /mlp_only_layers: other layers than the first without experts are not built yet");
}

TEST(HfConfigMistakes, AllAtOnceWithTheirPlaces) {
  EXPECT_EQ(message_of([] {
              import(R"({
  "model_type": "llama",
  "hidden_size": 100,
  "num_hidden_layers": "two",
  "num_attention_heads": 3,
  "num_key_value_heads": 2,
  "vocab_size": -5,
  "hidden_act": "gelu",
  "partial_rotary_factor": 0.5
})");
            }),
            R"(config.json:4: /num_hidden_layers: "two" is not allowed; expected an integer from 1 to 10000
config.json:1: /intermediate_size: missing, and has no default
config.json:7: /vocab_size: -5 is not allowed; expected an integer from 1 to 100000000
config.json:8: /hidden_act: "gelu" is not built yet; built: silu, swish, gelu_new, gelu_pytorch_tanh, gelu_fast
config.json:9: /partial_rotary_factor: rotating a part of the head is not built yet; expected 1
config.json:1: /: 3 heads do not divide the hidden size 100
config.json:1: /: 2 kv_heads do not divide 3 heads
config.json:1: /: rotary positions need an even head_dim, not 33)");
  EXPECT_EQ(message_of([] {
              import(R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 8,
                         "scale_attn_by_inverse_layer_idx": true})");
            }),
            "config.json:2: /scale_attn_by_inverse_layer_idx: true is not built yet; expected false");
}

TEST(HfConfigMistakes, AFileOfOursIsNone) {
  EXPECT_FALSE(is_hf_config(JsonDocument::from_text(R"({"layers": 2})", "f")));
  EXPECT_FALSE(is_hf_config(JsonDocument::from_text("[]", "f")));
}

}  // namespace
}  // namespace foretrain::workloads
