// DeepSpeed's JSON as a job. It says how a model is trained, and not which: the model and its sequences are the user's
// KEY=VALUE. Names and defaults: https://www.deepspeed.ai/docs/config-json/ and deepspeed/runtime/zero/config.py.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "plan/overrides.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

std::string scalar(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// {"a": {"b": 1}} as "a.b 1"; "auto" says nothing, and is noted.
void flatten(const JsonDocument& document, const json& value, const std::string& name, const std::string& pointer,
             std::vector<Setting>& out, std::vector<std::string>& automatic) {
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) {
      flatten(document, inner, name.empty() ? key : name + "." + key, pointer + "/" + key, out, automatic);
    }
    return;
  }
  Setting s{name, {}, document.line(pointer)};
  if (value.is_array()) {
    for (const json& item : value) {
      s.values.push_back(scalar(item));
    }
  } else if (!value.is_null()) {
    s.values.push_back(scalar(value));
  }
  if (s.values == std::vector<std::string>{"auto"}) {
    automatic.push_back(name);
  } else if (!s.values.empty()) {
    out.push_back(std::move(s));
  }
}

// Integers stand there as 5e8, too.
std::optional<std::int64_t> count(SettingReader& r, std::string_view name, std::int64_t low) {
  const auto value = r.number(name, static_cast<double>(low));
  constexpr double kMost = 1e15;
  if (value && *value > kMost) {
    r.mistake(name, fmt::format("expected at most {:.0e}", kMost));
    return std::nullopt;
  }
  return value ? std::optional(static_cast<std::int64_t>(*value)) : std::nullopt;
}

void read_sharding(SettingReader& r) {
  const std::int64_t zero = r.integer("zero_optimization.stage", 0).value_or(0);
  if (zero > 3) {
    r.mistake("zero_optimization.stage", fmt::format("{} is not allowed; expected 0, 1, 2 or 3", zero));
  }
  r.set("strategy.zero", zero, "zero_optimization.stage");
  // overlap_comm is on by default in stage 3 alone.
  r.set("strategy.overlap_grad_reduce", r.flag("zero_optimization.overlap_comm", zero == 3),
        "zero_optimization.overlap_comm");
  if (const auto elements = count(r, "zero_optimization.reduce_bucket_size", 1); elements && zero < 2) {
    r.set("strategy.bucket_bytes", fmt::format("{} B", *elements * 4), "zero_optimization.reduce_bucket_size");
  }
  if (const auto group = count(r, "zero_optimization.mics_shard_size", 1); group && *group > 1) {
    r.set("strategy.shard", *group, "zero_optimization.mics_shard_size");
  }
  if (const auto group = count(r, "zero_optimization.zero_hpz_partition_size", 1); group && *group > 1) {
    r.warn("zero_optimization.zero_hpz_partition_size",
           "a second copy of the parameters in each node is not built: "
           "forecast without");
  }
  json offload = json::array();
  const std::string optimizer = r.text("zero_optimization.offload_optimizer.device").value_or("none");
  if (optimizer == "cpu" || r.flag("zero_optimization.cpu_offload")) {
    r.set("strategy.offload", json::array({"optimizer"}), "zero_optimization.offload_optimizer.device");
  }
  const std::string parameters = r.text("zero_optimization.offload_param.device").value_or("none");
  for (const auto& [name, device] : {std::pair{"zero_optimization.offload_optimizer.device", optimizer},
                                     {"zero_optimization.offload_param.device", parameters}}) {
    if (device != "none" && !(device == "cpu" && &device == &optimizer) &&
        (std::string_view(name).find("param") != std::string_view::npos || device == "nvme")) {
      r.warn(name, fmt::format("\"{}\" is not built: forecast as if they stayed on the device", device));
    }
  }
}

void read_precision(SettingReader& r) {
  const bool bf16 = r.flag("bf16.enabled") || r.flag("bfloat16.enabled"), fp16 = r.flag("fp16.enabled");
  r.set("workload.precision", bf16 ? "bf16" : fp16 ? "fp16" : "fp32", bf16 ? "bf16.enabled" : "fp16.enabled");
}

void read_optimizer(SettingReader& r) {
  const auto kind = r.word("optimizer.type", {"Adam", "AdamW", "Lamb", "SGD", "FusedAdam", "DeepSpeedCPUAdam"});
  if (kind) {
    r.set("workload.optimizer.name", *kind == "Lamb" ? "lamb" : *kind == "SGD" ? "sgd" : "adamw", "optimizer.type");
  }
  if (kind == "Adam" && !r.flag("optimizer.params.adam_w_mode", true)) {
    r.set("workload.optimizer.name", "adam", "optimizer.params.adam_w_mode");
  }
  const auto number = [&](const char* name, const char* path) {
    if (const auto value = r.number(name, 0)) {
      r.set(path, *value, name);
    }
  };
  if (!kind && (r.has("optimizer.params.lr") || r.has("optimizer.params.betas"))) {
    r.mistake("optimizer.params", "stands without optimizer.type");
    return;
  }
  number("optimizer.params.lr", "workload.optimizer.learning_rate");
  number("optimizer.params.eps", "workload.optimizer.eps");
  number("optimizer.params.weight_decay", "workload.optimizer.weight_decay");
  number("optimizer.params.momentum", "workload.optimizer.momentum");
  if (const Setting* betas = r.find("optimizer.params.betas"); betas != nullptr && betas->values.size() == 2) {
    r.set("workload.optimizer.beta1", json::parse(betas->values[0], nullptr, false), "optimizer.params.betas");
    r.set("workload.optimizer.beta2", json::parse(betas->values[1], nullptr, false), "optimizer.params.betas");
  }
  const double clip = r.number("gradient_clipping", 0).value_or(0);
  r.set_quietly("workload.optimizer.clip", clip);
  if (kind || clip > 0) {
    r.set_quietly("workload.optimizer.name",
                  r.value("workload.optimizer.name").is_null() ? json("adamw") : r.value("workload.optimizer.name"));
  }
  const auto warmup = count(r, "scheduler.params.warmup_num_steps", 0),
             total = count(r, "scheduler.params.total_num_steps", 0);
  const std::string schedule = r.text("scheduler.type").value_or("");
  if (warmup) {
    r.set("workload.optimizer.warmup_steps", *warmup, "scheduler.params.warmup_num_steps");
  }
  if (total && *total > warmup.value_or(0) && schedule != "WarmupLR") {
    r.set("workload.optimizer.decay_steps", *total, "scheduler.params.total_num_steps");
    r.set_quietly("workload.optimizer.decay", schedule == "WarmupCosineLR" ? "cosine" : "linear");
  }
}

void read_batch(SettingReader& r) {
  const std::int64_t dp = data_parallel_size(r);
  const auto all = count(r, "train_batch_size", 1), micro = count(r, "train_micro_batch_size_per_gpu", 1),
             times = count(r, "gradient_accumulation_steps", 1);
  constexpr std::int64_t kMost = 1'000'000;
  const std::int64_t each =
      std::min(kMost, micro.value_or(all && times ? *all / std::max<std::int64_t>(1, *times * dp) : 1));
  if (micro) {
    r.set("strategy.micro_batch", each, "train_micro_batch_size_per_gpu");
  } else {
    r.assume("strategy.micro_batch", std::max<std::int64_t>(1, each), "train_micro_batch_size_per_gpu is not given");
  }
  if (all) {
    r.set("workload.global_batch", *all, "train_batch_size");
    if (micro && times && each * std::min(kMost, *times) * dp != *all) {
      r.warn("train_batch_size", fmt::format("{} is not the microbatch {} x {} accumulation steps x {} ranks along dp: "
                                             "the batch counts; nodes=N says how many devices there are",
                                             *all, each, *times, dp));
    }
  } else {
    r.assume("workload.global_batch", std::max<std::int64_t>(1, each) * std::min(kMost, times.value_or(1)) * dp,
             fmt::format("microbatch x {} accumulation steps x {} ranks along dp", times.value_or(1), dp));
  }
}

const std::vector<std::string> kTelling{
    "zero",     "offload",    "bucket",     "batch",     "parallel",
    "pipeline", "compress",   "checkpoint", "moe",       "expert",
    "quantize", "dtype",      "fp8",        "bf16",      "communication",
    "sparse",   "curriculum", "data_types", "partition", "stage3",
    "overlap",  "hybrid",     "compile",    "amp",       "flops_profiler.recompute"};
const std::vector<std::string> kWithoutEffect{"steps_per_print",
                                              "wall_clock_breakdown",
                                              "zero_optimization.contiguous_gradients",
                                              "zero_optimization.allgather_partitions",
                                              "zero_optimization.reduce_scatter",
                                              "zero_optimization.round_robin_gradients",
                                              "zero_optimization.allgather_bucket_size",
                                              "zero_optimization.stage3_prefetch_bucket_size",
                                              "zero_optimization.stage3_param_persistence_threshold",
                                              "zero_optimization.stage3_max_live_parameters",
                                              "zero_optimization.stage3_max_reuse_distance",
                                              "zero_optimization.stage3_gather_16bit_weights_on_model_save",
                                              "zero_optimization.sub_group_size",
                                              "zero_optimization.offload_optimizer.pin_memory",
                                              "zero_optimization.offload_param.pin_memory",
                                              "zero_optimization.load_from_fp32_weights",
                                              "zero_optimization.ignore_unused_parameters",
                                              "zero_allow_untested_optimizer",
                                              "fp16.loss_scale",
                                              "fp16.initial_scale_power",
                                              "fp16.loss_scale_window",
                                              "fp16.hysteresis",
                                              "fp16.min_loss_scale",
                                              "fp16.auto_cast",
                                              "fp16.consecutive_hysteresis",
                                              "prescale_gradients",
                                              "dump_state",
                                              "checkpoint.tag_validation",
                                              "checkpoint.load_universal",
                                              "checkpoint.use_node_local_storage",
                                              "optimizer.params.torch_adam",
                                              "bf16.immediate_grad_update"};

}  // namespace

ImportedJob import_deepspeed(const std::string& text, const std::string& origin, const ImportOptions& options) {
  const JsonDocument document = JsonDocument::from_text(text, origin);
  std::vector<Setting> settings;
  std::vector<std::string> automatic;
  flatten(document, document.root(), "", "", settings, automatic);
  const std::vector<std::string> overridden = overridden_fields(options.overrides);
  SettingReader r("DeepSpeed JSON", origin, std::move(settings), overridden);
  for (const char* field : {"workload.model", "workload.seq_len"}) {
    if (std::none_of(overridden.begin(), overridden.end(),
                     [&](const std::string& o) { return o.starts_with(field); })) {
      r.mistake(field, "is not in a DeepSpeed JSON; give it behind the file, as in model=llama3-8b seq_len=8192");
    }
  }
  for (const std::string& name : automatic) {
    r.warn_of_file(fmt::format("{}: {}: \"auto\" is filled in by the trainer; here it says nothing", origin, name));
  }
  if (const auto tp = r.integer("tensor_parallel.autotp_size", 1)) {
    r.set("strategy.tp", *tp, "tensor_parallel.autotp_size");
  }
  if (const auto cp = r.integer("sequence_parallel_size", 1); cp && *cp > 1) {
    r.set("strategy.cp", *cp, "sequence_parallel_size");
    r.set("strategy.cp_kind", "all_to_all", "sequence_parallel_size");
  }
  set_cluster(r, {}, options.overrides);
  read_precision(r);
  read_sharding(r);
  read_batch(r);
  read_optimizer(r);
  if (const auto kind = r.word("communication_data_type", {"fp16", "bf16", "bfp16", "fp32"})) {
    if (*kind != "fp32" && r.integer_at("strategy.zero", 0) == 0) {
      r.set("strategy.compression", *kind == "fp16" ? "fp16" : "bf16", "communication_data_type");
    } else if (*kind != "fp32") {
      r.warn("communication_data_type", "is not built with ZeRO: forecast in fp32");
    }
  }
  if (r.flag("activation_checkpointing.cpu_checkpointing")) {
    r.warn("activation_checkpointing.cpu_checkpointing",
           "is not built: give offload='[\"activations\"]' for what "
           "layers keep");
  }
  if (r.flag("activation_checkpointing.partition_activations")) {
    r.warn("activation_checkpointing.partition_activations", "is not built: forecast without");
  }
  r.ignore({"activation_checkpointing.contiguous_memory_optimization", "activation_checkpointing.number_checkpoints",
            "activation_checkpointing.synchronize_checkpoint_boundary", "activation_checkpointing.profile"});
  r.ignore(kWithoutEffect);
  return finished(r.finish(kTelling), origin, options.overrides);
}

}  // namespace foretrain::plan
