// Import of Hugging Face's config.json. Built: bert, gpt2, gpt_neox, llama, mistral, mixtral, qwen2, qwen3, qwen2_moe,
// qwen3_moe, deepseek_v2, deepseek_v3, kimi_k2; another model_type is refused by name. Read are the keys that shape the
// model. Keys without effect on shape, work or arithmetic of training are ignored, and so is rope_scaling of other
// ways than Llama 3.1's (it changes angles, neither shapes nor costs). Features that we do not build are refused by
// name. Defaults of absent keys are those of the transformers library's configuration classes.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "workloads/model.h"

namespace foretrain::workloads {

// Whether a document is such a config (it has "model_type" or "architectures") rather than a model file of ours.
bool is_hf_config(const JsonDocument& document);

// Records mistakes; the caller checks them before it uses the model. `unread` gets the keys that shape no model of this
// type.
Model import_hf_config(const JsonDocument& document, Mistakes& mistakes, std::vector<std::string>* unread = nullptr);

}  // namespace foretrain::workloads
