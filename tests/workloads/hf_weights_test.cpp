#include "workloads/hf_weights.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "tests/support/message_of.h"
#include "workloads/hf_config.h"
#include "workloads/model_file.h"

namespace foretrain::workloads {
namespace {

using test::message_of;

Model model_of(const std::string& config) {
  const JsonDocument document = JsonDocument::from_text(config, "config.json");
  Mistakes mistakes;
  Model m = import_hf_config(document, mistakes);
  mistakes.throw_if_any();
  return m;
}

// One small model of each family.
const std::map<std::string, std::string>& configs() {
  static const std::string sizes =
      R"("num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "vocab_size": 11)";
  static const std::map<std::string, std::string> all{
      {"gpt2", R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 6})"},
      {"bert", R"({"model_type": "bert", "max_position_embeddings": 6, )" + sizes + "}"},
      {"gpt_neox", R"({"model_type": "gpt_neox", "rotary_pct": 0.5, )" + sizes + "}"},
      {"llama", R"({"model_type": "llama", "num_key_value_heads": 1, )" + sizes + "}"},
      {"mistral", R"({"model_type": "mistral", "sliding_window": 4, )" + sizes + "}"},
      {"mixtral", R"({"model_type": "mixtral", "num_local_experts": 3, )" + sizes + "}"},
      {"qwen2", R"({"model_type": "qwen2", "tie_word_embeddings": true, )" + sizes + "}"},
      {"qwen3", R"({"model_type": "qwen3", "head_dim": 6, )" + sizes + "}"},
      {"qwen2_moe",
       R"({"model_type": "qwen2_moe", "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 5,
                        "shared_expert_intermediate_size": 7, )" +
           sizes + "}"},
      {"qwen3_moe", R"({"model_type": "qwen3_moe", "num_experts": 3, "num_experts_per_tok": 2, "head_dim": 4,
                        "moe_intermediate_size": 5, "mlp_only_layers": [0], )" +
                        sizes + "}"},
      {"deepseek_v2", R"({"model_type": "deepseek_v2", "q_lora_rank": null, "kv_lora_rank": 6, "qk_nope_head_dim": 4,
                          "qk_rope_head_dim": 4, "v_head_dim": 3, "n_routed_experts": 3, "num_experts_per_tok": 2,
                          "moe_intermediate_size": 5, "first_k_dense_replace": 1, )" +
                          sizes + "}"},
      {"deepseek_v3", R"({"model_type": "deepseek_v3", "q_lora_rank": 5, "kv_lora_rank": 6, "qk_nope_head_dim": 4,
                          "qk_rope_head_dim": 4, "v_head_dim": 3, "n_routed_experts": 4, "num_experts_per_tok": 2,
                          "n_shared_experts": 1, "moe_intermediate_size": 5, "n_group": 2, "topk_group": 1, )" +
                          sizes + "}"},
      {"gpt_oss", R"({"model_type": "gpt_oss", "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 4,
                      "sliding_window": 4, )" +
                      sizes + "}"}};
  return all;
}

TEST(HfWeights, EachFamilyIsFoundAgain) {
  for (const auto& [type, config] : configs()) {
    const Model m = model_of(config);
    EXPECT_EQ(hf_model_type(m), type);
    const Model again = model_of(hf_config(m, 32, Dtype::bf16).dump());
    EXPECT_EQ(model_difference(again, m), "") << type;
  }
}

// Every element of ours, and of theirs, stands for one of the other. Together they are the model's parameters.
TEST(HfWeights, MapsEachElementOnce) {
  for (const auto& [type, config] : configs()) {
    const Model m = model_of(config);
    std::map<std::string, std::set<std::int64_t>> seen;  // of ours
    std::set<std::string> names;
    std::int64_t parameters = 0;
    for (const WeightMap& map : weight_maps(m).maps) {
      EXPECT_TRUE(names.insert(map.theirs).second) << map.theirs;
      std::int64_t elements = 1;
      for (const std::int64_t size : map.shape) {
        elements *= size;
      }
      ASSERT_EQ(elements, std::ssize(map.rows) * map.cols) << map.theirs;
      std::set<std::int64_t> places;
      for (std::int64_t i = 0; i < std::ssize(map.rows); ++i) {
        for (std::int64_t c = 0; c < map.cols; ++c) {
          const std::int64_t ours = map.rows[static_cast<std::size_t>(i)] * map.cols + c;
          EXPECT_TRUE(seen[map.ours].insert(ours).second || map.ours.empty()) << map.theirs;
          const std::int64_t place = map.first(i) + c * map.step();
          EXPECT_TRUE(place >= 0 && place < elements && places.insert(place).second) << map.theirs;
        }
      }
      parameters += elements;
    }
    for (const auto& [ours, elements] : seen) {
      EXPECT_EQ(*elements.rbegin(), std::ssize(elements) - 1) << type << " " << ours << ": a row is missing";
    }
    EXPECT_EQ(parameters, total_parameters(m)) << type;
  }
}

const WeightMap& map_of(const WeightMaps& maps, const std::string& theirs) {
  for (const WeightMap& map : maps.maps) {
    if (map.theirs == theirs) {
      return map;
    }
  }
  throw InputError("no " + theirs);
}

TEST(HfWeights, Gpt2StoresTheTranspose) {
  const WeightMaps maps = weight_maps(model_of(configs().at("gpt2")));
  const WeightMap& map = map_of(maps, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(map.ours, "layers.1.attention.qkv.weight");
  EXPECT_EQ(map.shape, (std::vector<std::int64_t>{8, 24}));
  EXPECT_EQ(map.first(23) + 5 * map.step(), 5 * 24 + 23);  // our row 23, column 5 is their row 5, column 23
  EXPECT_EQ(map_of(maps, "transformer.wte.weight").shape, (std::vector<std::int64_t>{11, 8}));
}

// Rows 0 to 7 of ours are q, 8 to 15 k, 16 to 23 v.
TEST(HfWeights, BertHasQueriesKeysAndValuesApart) {
  const WeightMaps maps = weight_maps(model_of(configs().at("bert")));
  const WeightMap& map = map_of(maps, "bert.encoder.layer.1.attention.self.value.weight");
  EXPECT_EQ(map.ours, "layers.1.attention.qkv.weight");
  EXPECT_EQ(map.rows.front(), 16);
  EXPECT_EQ(map.first(7) + 5 * map.step(), 7 * 8 + 5);  // our row 23, column 5 is their row 7, column 5
  EXPECT_EQ(map_of(maps, "bert.encoder.layer.0.output.LayerNorm.weight").ours, "layers.0.norm2.gain");
  EXPECT_EQ(maps.tied_head, "cls.predictions.decoder.weight");
}

// Heads of 4: theirs has q, k and v of head 0, then of head 1; ours q of both heads (rows 0 to 7), then k, then v.
TEST(HfWeights, NeoxStacksHeadByHead) {
  const WeightMaps maps = weight_maps(model_of(configs().at("gpt_neox")));
  const WeightMap& map = map_of(maps, "gpt_neox.layers.0.attention.query_key_value.bias");
  EXPECT_EQ(map.rows, (std::vector<std::int64_t>{0, 1, 2, 3, 8,  9,  10, 11, 16, 17, 18, 19,
                                                 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23}));
}

// Heads of 4 columns as they are and 4 that turn: theirs turn in pairs 0 1, 2 3; ours in halves 0 2, 1 3.
TEST(HfWeights, DeepseekTurnsPairs) {
  const WeightMaps maps = weight_maps(model_of(configs().at("deepseek_v3")));
  EXPECT_EQ(map_of(maps, "model.layers.0.self_attn.q_b_proj.weight").rows,
            (std::vector<std::int64_t>{0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11, 12, 14, 13, 15}));
  EXPECT_EQ(map_of(maps, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight").rows,
            (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 8, 7, 9}));
  EXPECT_EQ(map_of(maps, "model.layers.1.mlp.gate.e_score_correction_bias").ours, "");
}

// 3 experts of 12: theirs is [expert, hidden, gate and up in turn]; ours has rows gate 0 to 11, up 0 to 11 of expert 0,
// then of expert 1.
TEST(HfWeights, GptOssStacksExperts) {
  const WeightMaps maps = weight_maps(model_of(configs().at("gpt_oss")));
  const WeightMap& map = map_of(maps, "model.layers.0.mlp.experts.gate_up_proj");
  EXPECT_EQ(map.shape, (std::vector<std::int64_t>{3, 8, 24}));
  EXPECT_EQ(map.rows[24 + 3], 24 + 12 + 1);                         // of expert 1, the second up row
  EXPECT_EQ(map.first(24 + 3) + 5 * map.step(), (8 + 5) * 24 + 3);  // is at [1, 5, 3]
}

TEST(HfWeights, RefusesModelsThatNoFamilyHas) {
  Model m = model_of(configs().at("llama"));
  m.positions = Positions::none;
  EXPECT_EQ(message_of([&] { weight_maps(m); }),
            "weights: no model type of the transformers library has this model; the nearest one, llama, differs: "
            "positions is \"rotary\" there and \"none\" here");
  m = model_of(configs().at("mixtral"));
  m.moe.capacity_factor = 1.5;  // of training only
  EXPECT_EQ(hf_model_type(m), "mixtral");
  m.ssm.heads = 1;
  EXPECT_EQ(message_of([&] { weight_maps(m); }), "weights: of models with state-space layers they are not built");
}

TEST(HfWeights, KnowsWhatIsNoWeight) {
  const Model gpt2 = model_of(configs().at("gpt2")), deepseek = model_of(configs().at("deepseek_v3"));
  EXPECT_TRUE(is_no_weight("h.0.attn.bias", gpt2));
  EXPECT_FALSE(is_no_weight("h.0.attn.c_attn.bias", gpt2));
  EXPECT_TRUE(is_no_weight("model.layers.0.self_attn.rotary_emb.inv_freq", deepseek));
  EXPECT_TRUE(is_no_weight("model.layers.2.eh_proj.weight", deepseek)) << "behind the last layer: further tokens";
  EXPECT_FALSE(is_no_weight("model.layers.1.eh_proj.weight", deepseek));
}

}  // namespace
}  // namespace foretrain::workloads
