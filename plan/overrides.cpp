#include "plan/overrides.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::plan {

const std::vector<std::string>& job_fields() {
  static const std::vector<std::string> fields = [] {
    struct Part {
      const char* prefix;
      std::vector<const char*> keys;
    };
    const std::vector<Part> parts{
        {"", {"name", "description"}},
        {"workload.",
         {"model", "seq_len", "global_batch", "loss_scaling", "precision", "optimizer", "attention", "document_length",
          "moe_imbalance", "masked_share", "target_len", "data"}},
        {"workload.model.",
         {"architecture",
          "inputs",
          "outputs",
          "loss",
          "layers",
          "encoder_layers",
          "hidden",
          "heads",
          "kv_heads",
          "head_dim",
          "ffn_hidden",
          "vocab",
          "activation",
          "norm",
          "norm_position",
          "embedding_norm",
          "norm_eps",
          "positions",
          "max_positions",
          "relative_buckets",
          "relative_distance",
          "scaled_scores",
          "start_token",
          "rotary_base",
          "rotary_scaling",
          "rotary_dim",
          "parallel_residual",
          "shared_norm",
          "qk_norm",
          "token_types",
          "head",
          "mask_token",
          "tied_embeddings",
          "attention_bias",
          "output_bias",
          "mlp_bias",
          "attention_window",
          "full_attention_every",
          "full_attention_first",
          "attention_sinks",
          "moe",
          "mla",
          "ssm"}},
        {"workload.optimizer.",
         {"learning_rate", "min_learning_rate", "warmup_steps", "decay_steps", "decay", "beta1", "beta2", "eps",
          "weight_decay", "momentum", "clip"}},
        {"workload.loss_scaling.", {"initial", "growth", "backoff", "interval", "limit"}},
        {"workload.data.",
         {"path", "format", "tokenizer", "validation", "last_batch", "synthetic", "samples", "noise", "distribution",
          "reshuffle", "epochs", "loaders", "prefetch", "bytes_per_sequence", "sequences", "cache"}},
        {"cluster.",
         {"system", "nodes", "devices_per_node", "profile", "inter", "hosts_share_cores", "hosts", "disturbance",
          "storage"}},
        {"cluster.hosts.", {"worker", "server", "loader"}},
        {"cluster.inter.", {"bandwidth", "latency"}},
        {"cluster.storage.", {"bandwidth", "latency", "shared"}},
        {"cluster.disturbance.", {"jitter", "seed"}},
        {"strategy.",
         {"dp",
          "tp",
          "pp",
          "cp",
          "ep",
          "expert_tp",
          "micro_batch",
          "virtual_stages",
          "schedule",
          "zero",
          "zero_kind",
          "shard",
          "reshard",
          "prefetch",
          "recompute",
          "recompute_layers",
          "recompute_early_stop",
          "sequence_parallel",
          "overlap_grad_reduce",
          "overlap_param_gather",
          "overlap_tp",
          "overlap_ep",
          "scatter_gather",
          "fused_grad_accumulation",
          "fused_activation",
          "loss_chunks",
          "bucket_bytes",
          "cp_kind",
          "offload",
          "offload_layers",
          "optimizer_sync",
          "rank_order",
          "layers_per_stage",
          "padded_vocab",
          "data_parallel",
          "servers",
          "server_sharding",
          "server_replicas",
          "server_order",
          "loader_ranks",
          "staleness",
          "elastic",
          "average_every",
          "local_group",
          "outer_optimizer",
          "compression",
          "split_by_speed"}}};
    std::vector<std::string> all;
    for (const Part& part : parts) {
      for (const char* key : part.keys) {
        all.push_back(std::string(part.prefix) + key);
      }
    }
    return all;
  }();
  return fields;
}

std::string full_override(const std::string& key_equals_value) {
  const std::size_t equals = key_equals_value.find('=');
  const std::string key = key_equals_value.substr(0, equals);
  const std::string first = key.substr(0, key.find('.'));
  const std::vector<std::string>& fields = job_fields();
  const bool whole = first == "workload" || first == "cluster" || first == "strategy" || key == "version" ||
                     std::find(fields.begin(), fields.end(), key) != fields.end();
  constexpr std::size_t kLongest = 100;
  if (whole || equals == std::string::npos || key.empty() || key.size() > kLongest) {
    return key_equals_value;  // malformed text is refused where it is applied
  }
  std::vector<std::string> found;
  std::vector<std::string> last_keys;
  for (const std::string& field : fields) {
    if (field.ends_with("." + key)) {
      found.push_back(field);
    }
    last_keys.push_back(field.substr(field.rfind('.') + 1));
  }
  if (found.size() == 1) {
    return found.front() + key_equals_value.substr(equals);
  }
  if (found.empty()) {
    const std::string nearest = nearest_word(key, last_keys);
    throw InputError(fmt::format("command line: unknown key \"{}\"; {}expected a field such as strategy.tp", key,
                                 nearest.empty() ? "" : fmt::format("did you mean \"{}\"? ", nearest)));
  }
  throw InputError(fmt::format("command line: \"{}\" is ambiguous; expected one of: {}", key, fmt::join(found, ", ")));
}

}  // namespace foretrain::plan
