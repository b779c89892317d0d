// A job as torchtitan's TOML.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "plan/foreign/foreign.h"
#include "plan/foreign/telling.h"
#include "plan/foreign/torchtitan_words.h"
#include "workloads/model_file.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

// Tables in the order that they are written in; keys of one may come at any time.
class Toml {
 public:
  void add(std::string_view table, std::string_view key, std::string value) {
    const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const auto& t) { return t.first == table; });
    auto& lines = found == tables_.end() ? tables_.emplace_back(table, "").second : found->second;
    lines += fmt::format("{} = {}\n", key, value);
  }
  void add(std::string_view name, std::string value) {
    const std::size_t dot = name.rfind('.');
    add(name.substr(0, dot), name.substr(dot + 1), std::move(value));
  }
  static std::string quoted(std::string_view text) {
    std::string out;
    for (const char c : text) {
      const bool is_control = static_cast<unsigned char>(c) < ' ' || c == '\x7f';
      out += is_control              ? fmt::format("\\u{:04x}", static_cast<int>(c))
             : c == '"' || c == '\\' ? std::string{'\\', c}
                                     : std::string(1, c);
    }
    return "\"" + out + "\"";
  }
  std::string text() const {
    std::string out;
    for (const auto& [name, lines] : tables_) {
      out += fmt::format("{}[{}]\n{}", out.empty() ? "" : "\n", name, lines);
    }
    return out;
  }

 private:
  std::vector<std::pair<std::string, std::string>> tables_;
};

bool is_shape(const workloads::Model& a, const workloads::Model& b) {
  return a.layers == b.layers && a.hidden == b.hidden && a.heads == b.heads && a.kv_heads == b.kv_heads &&
         a.head_dim == b.head_dim && a.ffn_hidden == b.ffn_hidden && a.vocab == b.vocab &&
         a.activation == b.activation && a.norm == b.norm && a.moe.experts == b.moe.experts &&
         a.moe.top_k == b.moe.top_k && a.moe.ffn_hidden == b.moe.ffn_hidden;
}

void write_model(Telling& t, Toml& out, const Job& job) {
  t.pass({"workload.model"});
  for (const TorchtitanModel& m : kTorchtitanModels) {
    if (is_shape(job.workload.model,
                 workloads::load_model(catalogue_path(workloads::kModelFolder, "model", std::string(m.model))))) {
      out.add("model.name", Toml::quoted(m.name));
      out.add("model.flavor", Toml::quoted(m.flavor));
      return;
    }
  }
  t.refuse("workload.model.name", "no flavor: none of torchtitan's has this shape; register one under model.flavor");
  out.add("model.name", Toml::quoted("llama3"));
  out.add("model.flavor", Toml::quoted(job.workload.model.name));
}

void write_precision(Telling& t, Toml& out) {
  const std::string word = t.word("workload.precision");
  out.add("training.mixed_precision_param", Toml::quoted(word == "fp32" ? "float32" : "bfloat16"));
  if (word == "fp8") {
    out.add("model.converters", "[\"quantize.linear.float8\"]");
  } else if (word == "mxfp8") {
    out.add("model.converters", "[\"quantize.linear.mx\"]");
  } else if (word != "fp32" && word != "bf16") {
    t.refuse("workload.precision", "bfloat16");
  }
  if (const std::string kind = t.word("workload.attention"); kind != "flash") {
    t.refuse("workload.attention", "scaled_dot_product_attention's own choice");
  }
}

void write_pipeline(Telling& t, Toml& out, const Job& job) {
  const Strategy& s = job.strategy;
  t.pass({"strategy.virtual_stages", "strategy.layers_per_stage"});
  const std::string word = t.word("strategy.schedule");
  if (s.pp == 1) {
    return;
  }
  const auto schedule = std::find_if(kTorchtitanSchedules.begin(), kTorchtitanSchedules.end(),
                                     [&](const TorchtitanSchedule& x) { return x.job == word; });
  if (schedule == kTorchtitanSchedules.end()) {
    t.refuse("strategy.schedule", s.virtual_stages > 1 ? "Interleaved1F1B" : "1F1B");
  }
  out.add("parallelism.pipeline_parallel_schedule", Toml::quoted(schedule != kTorchtitanSchedules.end() ? schedule->name
                                                                 : s.virtual_stages > 1 ? "Interleaved1F1B"
                                                                                        : "1F1B"));
  out.add("parallelism.pipeline_parallel_microbatch_size", fmt::format("{}", s.micro_batch));
  const std::vector<std::int64_t> layers = layers_per_stage(job);
  const std::int64_t all = job.workload.model.layers, stages = std::ssize(layers);
  for (const auto& [embedding, head] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {0, 0}, {1, 0}, {0, 1}, {1, 2}}) {
    if (torchtitan_split(all, stages, embedding, head) == layers) {
      out.add("parallelism.pipeline_parallel_first_stage_less_layers", fmt::format("{}", embedding));
      out.add("parallelism.pipeline_parallel_last_stage_less_layers", fmt::format("{}", head));
      if (s.virtual_stages > 1) {
        out.add("parallelism.pipeline_parallel_layers_per_stage",
                fmt::format("{}", (all + embedding + head + stages - 1) / stages));
      }
      return;
    }
  }
  t.refuse("strategy.layers_per_stage", "torchtitan's own cut");
}

void write_data_parallel(Telling& t, Toml& out, const Job& job) {
  const Strategy& s = job.strategy;
  const std::int64_t zero = t.integer("strategy.zero");
  t.pass({"strategy.reshard", "strategy.shard", "strategy.overlap_grad_reduce", "strategy.overlap_param_gather"});
  const bool shards = zero > 0;
  const std::int64_t group = s.shard > 0 ? s.shard : s.dp;
  out.add("parallelism.data_parallel_replicate_degree", fmt::format("{}", shards ? s.dp / group : s.dp));
  out.add("parallelism.data_parallel_shard_degree", fmt::format("{}", shards ? group : 1));
  if (!shards) {
    return;
  }
  const bool whole = zero == 3 ? !s.reshard : true;
  out.add("parallelism.fsdp_reshard_after_forward", Toml::quoted(whole ? "never" : "always"));
  const bool in_pipeline = s.pp > 1;
  if (zero == 2 || (zero == 1 && !in_pipeline) || (zero == 3 && whole && in_pipeline)) {
    t.refuse("strategy.zero", "FSDP without resharding after the forward");
  }
  if (!s.overlap_grad_reduce) {
    t.refuse("strategy.overlap_grad_reduce", "FSDP, which reduces behind the backward");
  }
  if (zero == 1 && in_pipeline && !s.overlap_param_gather) {
    t.refuse("strategy.overlap_param_gather", "FSDP, which gathers ahead of the forward");
  }
}

void write_batch(Telling& t, Toml& out, const Job& job) {
  t.pass({"strategy.micro_batch"});
  const std::int64_t per_rank = job.workload.global_batch / job.strategy.dp;
  out.add("training.local_batch_size", fmt::format("{}", job.strategy.pp > 1 ? per_rank : job.strategy.micro_batch));
  out.add("training.global_batch_size", fmt::format("{}", t.integer("workload.global_batch")));
}

void write_optimizer(Telling& t, Toml& out) {
  const std::string kind = t.word("workload.optimizer.name");
  if (kind != "adam" && kind != "adamw") {
    t.refuse("workload.optimizer.name", "AdamW");
  }
  t.pass({"workload.optimizer.momentum"});
  const double rate = t.number("workload.optimizer.learning_rate");
  out.add("optimizer.name", Toml::quoted(kind == "adam" ? "Adam" : "AdamW"));
  out.add("optimizer.lr", shortest(rate));
  for (const char* key : {"beta1", "beta2", "eps", "weight_decay"}) {
    out.add(fmt::format("optimizer.{}", key), shortest(t.number(fmt::format("workload.optimizer.{}", key))));
  }
  out.add("training.max_norm", shortest(t.number("workload.optimizer.clip")));
  const std::int64_t last = t.integer("workload.optimizer.decay_steps");
  const std::string decay = t.word("workload.optimizer.decay");
  out.add("lr_scheduler.warmup_steps", fmt::format("{}", t.integer("workload.optimizer.warmup_steps")));
  if (last > 0) {
    out.add("lr_scheduler.total_steps", fmt::format("{}", last));
  }
  out.add("lr_scheduler.decay_type", Toml::quoted(decay == "cosine" ? "cosine" : "linear"));
  if (decay == "inverse_sqrt" && last > 0) {
    t.refuse("workload.optimizer.decay", "linear");
  }
  const double low = t.number("workload.optimizer.min_learning_rate");
  out.add("lr_scheduler.min_lr_factor", shortest(last == 0 ? 1 : rate > 0 ? low / rate : 0));
}

void write_recompute(Telling& t, Toml& out, const Job& job) {
  const json& words = t.at("strategy.recompute");
  const json& layers = t.at("strategy.recompute_layers");
  const bool stops = t.flag("strategy.recompute_early_stop");
  if (words == "full" && layers.is_null()) {
    out.add("activation_checkpoint.mode", Toml::quoted("full"));
  } else if (words == "full") {
    const std::int64_t per_stage = job.workload.model.layers / job.strategy.model_stages();
    const std::int64_t some = layers.is_number() ? layers.get<std::int64_t>() : 0;
    const std::int64_t every = some > 0 ? per_stage / some : 0;
    out.add("activation_checkpoint.mode", Toml::quoted("selective"));
    out.add("activation_checkpoint.selective_ac_option",
            Toml::quoted(fmt::format("{}", std::max<std::int64_t>(1, every))));
    if (every == 0 || per_stage / every != some) {
      t.refuse("strategy.recompute_layers", "one of every so many layers");
    }
  } else if (words == json::array({"norm", "activation"})) {
    out.add("activation_checkpoint.mode", Toml::quoted("selective"));
    out.add("activation_checkpoint.selective_ac_option", Toml::quoted("op"));
  } else {
    out.add("activation_checkpoint.mode", Toml::quoted("none"));
    if (words != "none" && !(words == "selective" && is_flash(job.workload.attention))) {
      t.refuse("strategy.recompute", "none");
    }
  }
  if (stops) {
    out.add("activation_checkpoint.early_stop", "true");
  }
}

}  // namespace

ExportedJob export_torchtitan(const Job& job) {
  Telling t(job, "torchtitan");
  Toml out;
  t.pass({"workload.data"});
  write_model(t, out, job);
  for (const TorchtitanInteger& w : kTorchtitanIntegers) {
    out.add(w.name, fmt::format("{}", t.integer(w.path)));
  }
  write_batch(t, out, job);
  out.add("training.steps", "100");
  write_precision(t, out);
  write_data_parallel(t, out, job);
  write_pipeline(t, out, job);
  if (const std::string kind = t.word("strategy.cp_kind"); job.strategy.cp > 1) {
    out.add("parallelism.context_parallel_rotate_method", Toml::quoted(kind == "ring" ? "alltoall" : "allgather"));
    if (kind == "all_to_all") {
      t.refuse("strategy.cp_kind", "allgather");
    }
  }
  if (job.strategy.ep > 1) {
    out.add("parallelism.expert_tensor_parallel_degree", fmt::format("{}", job.strategy.expert_tp));
  }
  if (!t.flag("strategy.sequence_parallel") && job.strategy.tp > 1) {
    t.refuse("strategy.sequence_parallel", "tensor parallelism with sequence parallelism");
  }
  t.pass({"strategy.offload"});
  if (job.strategy.offload_optimizer) {
    out.add("training.enable_cpu_offload", "true");
  }
  if (job.strategy.offload_activations) {
    t.refuse("strategy.offload", "none of activations");
  }
  write_optimizer(t, out);
  write_recompute(t, out, job);
  return {{{"torchtitan.toml", out.text()}}, t.warnings()};
}

}  // namespace foretrain::plan
