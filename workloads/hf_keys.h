// Reading Hugging Face's config.json: null stands for an absent key in these files.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/json.h"
#include "workloads/model.h"

namespace foretrain::workloads::hf {

inline constexpr std::int64_t kMax = 10'000'000;
inline constexpr std::int64_t kMaxLayers = 10'000;

bool given(ObjectReader& reader, const std::string& key);
std::int64_t integer(ObjectReader& reader, const std::string& key, std::int64_t fallback);
double number(ObjectReader& reader, const std::string& key, double fallback, double low, double high);
bool boolean(ObjectReader& reader, const std::string& key, bool fallback);

// Experts, by the keys of a model type: mixtral, qwen2_moe, qwen3_moe, deepseek_v2, deepseek_v3, kimi_k2. The library
// adds a balancing loss only where router logits are put out.
Moe read_experts(ObjectReader& reader, const std::string& type, std::int64_t ffn_hidden);
// Latent attention of the deepseek types, whose heads are all key-value heads.
void read_latent_attention(ObjectReader& reader, Model& m);

// Mamba-2 mixers of bamba, and which layers have attention instead.
Ssm read_state_space(ObjectReader& reader, std::int64_t hidden, std::int64_t layers);

}  // namespace foretrain::workloads::hf
