#include "search/training_row.h"

#include <charconv>
#include <cmath>

namespace foretrain::search {

namespace {

constexpr const char* kExact = "exact config stated";

// A number, also one with its unit at the beginning of words ("200 Gb/s HDR InfiniBand"); nothing where the source has
// only words.
std::optional<double> rate_or_words(const RowReader& reader, const char* key) {
  const std::string word = reader.word(key);
  const std::size_t end = word.find_first_not_of("0123456789.+-eE");
  if (word.empty() || end == 0) {
    return std::nullopt;
  }
  if (end == std::string::npos) {
    return reader.number(key);
  }
  double value = 0;
  const auto [last, error] = std::from_chars(word.data(), word.data() + end, value);
  const bool has_unit = word.substr(end).starts_with(" Gb/s");
  return error == std::errc() && last == word.data() + end && std::isfinite(value) && value >= 0 && has_unit
             ? std::optional(value)
             : std::nullopt;
}

void read_plan(const RowReader& reader, TrainingRow& row) {
  auto& p = row.plan;
  p.dp = reader.integer("dp", 1);
  p.tp = reader.integer("tp", 1);
  p.pp = reader.integer("pp", 1);
  p.cp = reader.integer("cp", 1);
  p.ep = reader.integer("ep", 1);
  p.expert_tp = reader.integer("etp", 1);
  p.dispatcher = reader.text("dispatcher");
  if (const std::string vpp = reader.word("vpp"); vpp.find_first_not_of("0123456789") == std::string::npos) {
    p.vpp = reader.integer("vpp", 1);
  } else {
    p.vpp_words = vpp;
  }
  p.micro_batch = reader.integer("micro_batch", 1);
  p.global_batch = reader.integer("global_batch", 1);
  p.zero_stage = reader.integer("zero_stage", 0);
  if (const std::string group = reader.word("zero1_group");
      group.find_first_not_of("0123456789") == std::string::npos) {
    p.zero1_group = reader.integer("zero1_group", 1);
  }
  p.fsdp = reader.word("fsdp");
  p.recompute = reader.word("recompute");
  p.overlap = reader.word("overlap");
  p.precision = reader.text("precision");
  p.framework = reader.text("framework");
  p.schedule = reader.text("schedule");
  p.kernel = reader.text("kernel");
  p.cp_comm = reader.text("cp_comm");
  p.fsdp_mixed_precision = reader.text("fsdp_mixed_precision");
  p.sequence_parallel = reader.boolean("sequence_parallel");
  p.distributed_optimizer = reader.boolean("distributed_optimizer");
  p.compile = reader.boolean("compile");
  p.activation_cpu_offload = reader.boolean("activation_cpu_offload");
}

void read_measured(const RowReader& reader, TrainingRow& row) {
  const RowReader measured = reader.object("measured", true), derived = reader.object("derived");
  row.step_time_s = measured.number("step_time_s");
  if (!row.step_time_s) {
    row.step_time_s = derived.number("step_time_s");
    row.derived_by = row.step_time_s ? derived.text("method") : "";
  }
  row.memory_gib = measured.number("memory_gib");
  row.memory_kind = measured.text("memory_kind");
  row.out_of_memory = measured.boolean("oom").value_or(false);
}

}  // namespace

TrainingRow read_training_row(const RowReader& reader) {
  TrainingRow row;
  row.id = reader.text("id", true);
  row.group = reader.text("group", true);
  row.exact = reader.text("quality") == kExact;
  row.flagged = reader.list_size("flags") > 0;

  const RowReader model = reader.object("model", true);
  row.model.name = model.text("name");
  row.model.encoder = model.text("architecture") == "encoder";
  row.model.layers = model.integer("layers", 1);
  row.model.hidden = model.integer("hidden", 1);
  row.model.heads = model.integer("heads", 1);
  row.model.kv_heads = model.integer("kv_heads", 1);
  row.model.head_dim = model.integer("head_dim", 1);
  row.model.ffn_hidden = model.integer("ffn_hidden", 1);
  row.model.vocab = model.integer("vocab", 1);
  row.model.seq_len = model.integer("seq_len", 1);
  row.model.gated_mlp = model.boolean("gated_mlp");
  row.model.tied_embeddings = model.boolean("tied_embeddings");
  row.model.moe = model.has("moe");
  if (row.model.moe) {
    const RowReader moe = model.object("moe");
    row.model.experts = moe.integer("experts", 1);
    row.model.top_k = moe.integer("topk", 1);
    row.model.expert_ffn = moe.integer("moe_ffn", 1);
    row.model.expert_shared = moe.integer("shared_experts", 0);
    row.model.expert_shared_ffn = moe.integer("shared_ffn", 0);
    row.model.dense_layers = moe.integer("first_dense_layers", 0);
    row.model.capacity_factor = moe.number("capacity_factor");
    row.model.latent_attention = moe.boolean("mla").value_or(false);
    row.model.q_rank = moe.integer("q_lora", 0);
    row.model.kv_rank = moe.integer("kv_lora", 1);
    row.model.nope_dim = moe.integer("qk_nope", 1);
    row.model.rope_dim = moe.integer("qk_rope", 1);
    row.model.v_dim = moe.integer("v_head", 1);
  }

  const RowReader cluster = reader.object("cluster", true);
  row.cluster.gpu = cluster.text("gpu");
  row.cluster.family = cluster.text("gpu_family");
  row.cluster.gpus = cluster.integer("gpus", 1);
  row.cluster.gpus_per_node = cluster.integer("gpus_per_node", 1);
  row.cluster.inter_node_gbps = rate_or_words(cluster, "inter_node_gbps");
  const std::string scope = cluster.text("inter_node_scope");
  row.cluster.inter_per_gpu = scope.starts_with("per GPU");
  row.cluster.inter_has_scope = !scope.empty();

  read_plan(reader.object("plan", true), row);
  read_measured(reader, row);
  return row;
}

}  // namespace foretrain::search
