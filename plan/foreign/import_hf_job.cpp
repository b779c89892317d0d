// A Hugging Face config.json as a job: the model is its, all else is assumed.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "workloads/hf_config.h"
#include "workloads/model_file.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

const std::vector<std::string> kTelling{"num_",      "size",      "dim",    "layer",      "head",  "expert",
                                        "moe",       "router",    "rope",   "rotary",     "quant", "attn",
                                        "lora",      "attention", "window", "bias",       "norm",  "mlp",
                                        "positions", "tie_",      "aux",    "activation", "vocab", "mtp"};
// Of inference, or said by another key.
const std::vector<std::string> kWithoutEffect{
    "ep_size",        "scale_attn_weights", "_attn_implementation", "rope_interleave",         "num_labels",
    "num_beams",      "num_beam_groups",    "num_return_sequences", "num_logits_to_keep",      "is_gated_act",
    "max_new_tokens", "n_positions",        "experts_per_token",    "chunk_size_feed_forward", "no_repeat_ngram_size"};
// Latent attention has as many keys as heads, of the sizes that its own keys say.
const std::vector<std::string> kWithoutEffectOfLatents{"num_key_value_heads", "head_dim", "qk_head_dim"};

bool is_off(const json& value) {
  return value.is_null() || value == false || value == 0 || (value.is_structured() && value.empty());
}

// Dropout is none of a plan's; qwen's windows are read where use_sliding_window has them, the weight of a balancing
// loss where router logits are put out, and of BERT's pooler nothing.
bool has_no_effect(const std::string& key, const std::string& type, bool is_latent) {
  const auto has = [&](std::string_view part) { return key.find(part) != std::string::npos; };
  const auto among = [&](const std::vector<std::string>& keys) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  return has("drop") || has("pooler") || key == "router_aux_loss_coef" || among(kWithoutEffect) ||
         (is_latent && among(kWithoutEffectOfLatents)) ||
         (type.starts_with("qwen") && (has("window") || key == "layer_types")) ||
         std::none_of(kTelling.begin(), kTelling.end(), has);
}

// What the model is built without; gives back the keys that say so.
std::set<std::string> warn_of_unbuilt(SettingReader& r, const json& root, const std::vector<std::string>& unread) {
  std::set<std::string> named;
  const auto stands = [&](const char* key) { return root.contains(key) && !is_off(root.at(key)); };
  for (const auto& [key, what] :
       {std::pair{"num_nextn_predict_layers", "modules that predict further tokens are not built: forecast without"},
        {"quantization_config", "weights are trained as workload.precision says, and not quantized"}}) {
    if (stands(key)) {
      r.warn(key, what);
      named.insert(key);
    }
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!stands(key) || !root.at(key).is_object()) {
      continue;
    }
    const json& rope = root.at(key);
    const json way = rope.value(rope.contains("rope_type") ? "rope_type" : "type", json("default"));
    const bool is_read = std::find(unread.begin(), unread.end(), key) == unread.end();
    if (way != "default" && !(way == "llama3" && is_read)) {
      r.warn(key,
             fmt::format("{} is not built: positions rotate without it, which a forecast does not see", shown(way)));
      named.insert(key);
    }
  }
  return named;
}

// "/a~1b" for the key "a/b".
std::string pointer_to(const std::string& key) {
  return (json::json_pointer() / key).to_string();
}

}  // namespace

ImportedJob import_hf_job(const std::string& text, const std::string& origin, const ImportOptions& options) {
  const JsonDocument document = JsonDocument::from_text(text, origin);
  Mistakes mistakes;
  std::vector<std::string> unread;
  const workloads::Model model = workloads::import_hf_config(document, mistakes, &unread);
  mistakes.throw_if_any();
  constexpr std::int64_t kUsualLength = 4096;
  const json& root = document.root();
  const json places = root.value("max_position_embeddings", json());
  const std::int64_t most = model.max_positions > 0      ? model.max_positions
                            : places.is_number_integer() ? std::max<std::int64_t>(1, places.get<std::int64_t>())
                                                         : kUsualLength;
  const std::string type = root.value("model_type", std::string("?"));
  std::vector<Setting> settings{{"model_type", {type}, document.line("/model_type")}};
  std::vector<std::string> keys{"max_position_embeddings", "rope_scaling", "rope_parameters"};
  keys.insert(keys.end(), unread.begin(), unread.end());
  for (const std::string& key : keys) {
    settings.push_back({key, {}, document.line(pointer_to(key))});
  }
  SettingReader r("Hugging Face config", origin, std::move(settings), overridden_fields(options.overrides));
  for (const char* key : {"model_type", "max_position_embeddings", "rope_scaling", "rope_parameters"}) {
    r.find(key);
  }
  const std::set<std::string> named = warn_of_unbuilt(r, root, unread);
  for (const std::string& key : unread) {
    if (key == "max_position_embeddings" || named.contains(key)) {
      continue;
    }
    if (is_off(root.at(key)) || has_no_effect(key, type, model.has_mla())) {
      r.ignore({key});
    } else {
      r.warn(key, fmt::format("{} is none of {}'s keys, and left out; it may change the forecast", shown(root.at(key)),
                              type));
    }
  }
  r.set("workload.model", workloads::to_json(model), "model_type");
  r.assume("workload.seq_len", std::min(kUsualLength, most), "a model's config does not say it; give seq_len=N");
  set_cluster(r, {}, options.overrides);
  r.assume("workload.global_batch", data_parallel_size(r), "a sequence for each device; give global_batch=N");
  ImportedJob job = r.finish({});
  job.read = {"model_type " + type + ": workload.model"};
  return finished(std::move(job), origin, options.overrides);
}

}  // namespace foretrain::plan
