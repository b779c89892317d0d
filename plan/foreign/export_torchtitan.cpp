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

// A flavor is a whole model: what of ours is another is lost, and named.
void refuse_differences(Telling& t, const json& ours, const json& flavor, const std::string& path) {
  for (const auto& [key, value] : ours.items()) {
    const json there = flavor.contains(key) ? flavor.at(key) : json();
    if (value.is_object() && there.is_object()) {
      refuse_differences(t, value, there, path + "." + key);
    } else if (value != there && key != "name") {
      t.refuse(path + "." + key, shown(there));
    }
  }
}

void write_model(Telling& t, Toml& out, const Job& job) {
  t.pass({"workload.model"});
  for (const TorchtitanModel& m : kTorchtitanModels) {
    const workloads::Model flavor =
        workloads::load_model(catalogue_path(workloads::kModelFolder, "model", std::string(m.model)));
    if (is_shape(job.workload.model, flavor)) {
      refuse_differences(t, workloads::to_json(job.workload.model), workloads::to_json(flavor), "workload.model");
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

// What stages hold, by the names of their modules.
std::string modules_of(const std::vector<std::int64_t>& layers) {
  std::string lists;
  std::int64_t next = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    std::vector<std::string> modules;
    if (i == 0) {
      modules.push_back(Toml::quoted("tok_embeddings"));
    }
    for (std::int64_t k = 0; k < layers[i]; ++k) {
      modules.push_back(Toml::quoted(fmt::format("layers.{}", next++)));
    }
    if (i + 1 == layers.size()) {
      modules.insert(modules.end(), {Toml::quoted("norm"), Toml::quoted("output")});
    }
    lists += fmt::format("\n  [{}],", fmt::join(modules, ", "));
  }
  return "[" + lists + "\n]";
}

// How torchtitan comes to these layers of each stage: by its own rule, where there is a number of layers that makes so
// many stages (usual: as many as it has without), else module by module.
void write_stages(Toml& out, const std::vector<std::int64_t>& split, std::int64_t layers, bool usual) {
  const std::int64_t stages = std::ssize(split);
  for (const auto& [embedding, head] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {0, 0}, {1, 0}, {0, 1}, {1, 2}}) {
    const std::int64_t items = layers + embedding + head, per_stage = (items + stages - 1) / stages;
    const bool counts = usual || (items + per_stage - 1) / per_stage == stages;
    if (counts && torchtitan_split(layers, stages, embedding, head) == split) {
      out.add("parallelism.pipeline_parallel_first_stage_less_layers", fmt::format("{}", embedding));
      out.add("parallelism.pipeline_parallel_last_stage_less_layers", fmt::format("{}", head));
      if (!usual) {
        out.add("parallelism.pipeline_parallel_layers_per_stage", fmt::format("{}", per_stage));
      }
      return;
    }
  }
  out.add("parallelism.module_fqns_per_model_part", modules_of(split));
}

void write_pipeline(Telling& t, Toml& out, const Job& job) {
  const Strategy& s = job.strategy;
  t.pass({"strategy.virtual_stages", "strategy.layers_per_stage"});
  const std::string word = t.word("strategy.schedule");
  if (s.pp == 1) {
    if (word != "1f1b") {
      t.refuse("strategy.schedule", "none: a stage alone has each backward behind its forward");
    }
    return;
  }
  const std::vector<std::int64_t> split = layers_per_stage(job);
  const std::int64_t chunks = std::ssize(split) / s.pp;
  const std::string_view plain = chunks > 1 ? "interleaved" : "1f1b";
  const auto by_word = [](std::string_view job_word) {
    return std::find_if(kTorchtitanSchedules.begin(), kTorchtitanSchedules.end(),
                        [&](const TorchtitanSchedule& x) { return x.job == job_word; });
  };
  auto schedule = by_word(word);
  if (schedule == kTorchtitanSchedules.end()) {
    schedule = by_word(plain);
    t.refuse("strategy.schedule", schedule->name);
  }
  if (chunks != s.virtual_stages) {  // both ways of dualpipe
    t.refuse("strategy.virtual_stages", fmt::format("{}", chunks));
  }
  out.add("parallelism.pipeline_parallel_schedule", Toml::quoted(schedule->name));
  out.add("parallelism.pipeline_parallel_microbatch_size", fmt::format("{}", s.micro_batch));
  write_stages(out, split, job.workload.model.layers, chunks == schedule->chunks);
}

void write_data_parallel(Telling& t, Toml& out, const Job& job) {
  const Strategy& s = job.strategy;
  t.pass({"strategy.zero", "strategy.reshard", "strategy.shard", "strategy.overlap_grad_reduce",
          "strategy.overlap_param_gather"});
  const std::int64_t group = s.zero == 0 ? 1 : s.shard > 0 ? s.shard : s.dp;
  out.add("parallelism.data_parallel_replicate_degree", fmt::format("{}", s.dp / group));
  out.add("parallelism.data_parallel_shard_degree", fmt::format("{}", group));
  const char* policy = s.zero == 3 && s.reshard ? "always" : "never";
  const TorchtitanSharding there = torchtitan_sharding(s.dp / group, group, s.cp, s.pp, policy);
  if (there.zero > 0) {
    out.add("parallelism.fsdp_reshard_after_forward", Toml::quoted(policy));
  }
  if (there.zero != s.zero) {
    t.refuse("strategy.zero", there.zero == 0 ? "none: FSDP is for several ranks"
                              : s.zero == 0   ? "FSDP, over the ranks along cp"
                                              : "FSDP without resharding after the forward");
  }
  if (there.overlap_grad_reduce && !s.overlap_grad_reduce) {
    t.refuse("strategy.overlap_grad_reduce",
             fmt::format("{}, which reduces behind the backward", there.zero > 0 ? "FSDP" : "DDP"));
  }
  if (there.overlap_param_gather != s.overlap_param_gather) {
    t.refuse("strategy.overlap_param_gather",
             there.overlap_param_gather ? "FSDP, which gathers ahead of the forward" : "FSDP's gathers, of each unit");
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
