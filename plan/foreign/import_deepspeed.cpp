// DeepSpeed's JSON as a job. It says how a model is trained, and not which: the model and its sequences are the user's
// KEY=VALUE. Names and defaults: https://www.deepspeed.ai/docs/config-json/ and deepspeed/runtime/zero/config.py.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "plan/overrides.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

// What DeepSpeed has as objects; nothing else is one.
const std::vector<std::string> kSections{"zero_optimization",
                                         "zero_optimization.offload_optimizer",
                                         "zero_optimization.offload_param",
                                         "bf16",
                                         "bfloat16",
                                         "fp16",
                                         "optimizer",
                                         "optimizer.params",
                                         "scheduler",
                                         "scheduler.params",
                                         "tensor_parallel",
                                         "activation_checkpointing"};

// {"a": {"b": 1}} as "a.b 1"; "auto" says nothing, and is noted. A list is one value, as it stands there.
void flatten(const JsonDocument& document, const json& value, const std::string& name, const std::string& pointer,
             std::vector<Setting>& out, std::vector<std::string>& automatic) {
  const bool is_section = name.empty() || std::find(kSections.begin(), kSections.end(), name) != kSections.end();
  if (value.is_object() && (is_section || !value.empty())) {
    for (const auto& [key, inner] : value.items()) {
      flatten(document, inner, name.empty() ? key : name + "." + key, pointer + "/" + key, out, automatic);
    }
    return;
  }
  if (value == "auto") {
    automatic.push_back(name);
  } else if (!value.is_null()) {
    out.push_back({name, {value.is_string() ? value.get<std::string>() : shown(value)}, document.line(pointer)});
  }
}

void check_sections(SettingReader& r) {
  for (const std::string& name : kSections) {
    if (const Setting* section = r.find(name)) {
      r.mistake(name, fmt::format("\"{}\" is not allowed; expected an object", section->values.front()));
    }
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
  if (value && *value != std::floor(*value)) {
    r.mistake(name, fmt::format("\"{}\" is not allowed; expected an integer >= {}", *value, low));
    return std::nullopt;
  }
  return value ? std::optional(static_cast<std::int64_t>(*value)) : std::nullopt;
}

void read_sharding(SettingReader& r) {
  const std::int64_t stage = r.integer("zero_optimization.stage", 0).value_or(0);
  if (stage > 3) {
    r.mistake("zero_optimization.stage", fmt::format("{} is not allowed; expected 0, 1, 2 or 3", stage));
  }
  r.set("strategy.zero", stage, "zero_optimization.stage");
  const std::int64_t zero = r.integer_at("strategy.zero", stage);
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
  const std::vector<std::string> devices{"none", "cpu", "nvme"};
  const std::string optimizer = r.word("zero_optimization.offload_optimizer.device", devices).value_or("none");
  if (optimizer == "cpu" || r.flag("zero_optimization.cpu_offload")) {
    r.set("strategy.offload", json::array({"optimizer"}), "zero_optimization.offload_optimizer.device");
  }
  const std::string parameters = r.word("zero_optimization.offload_param.device", devices).value_or("none");
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

void read_betas(SettingReader& r) {
  constexpr const char* kName = "optimizer.params.betas";
  const auto text = r.text(kName);
  if (!text) {
    return;
  }
  const json betas = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto is_share = [](const json& b) { return b.is_number() && b >= 0 && b < 1; };
  if (!betas.is_array() || betas.size() != 2 || !std::all_of(betas.begin(), betas.end(), is_share)) {
    r.mistake(kName, fmt::format("{} is not allowed; expected two numbers >= 0 and < 1", *text));
    return;
  }
  r.set("workload.optimizer.beta1", betas[0], kName);
  r.set("workload.optimizer.beta2", betas[1], kName);
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
  read_betas(r);
  const double clip = r.number("gradient_clipping", 0).value_or(0);
  r.set_quietly("workload.optimizer.clip", clip);
  if (kind || clip > 0) {
    r.set_quietly("workload.optimizer.name",
                  r.value("workload.optimizer.name").is_null() ? json("adamw") : r.value("workload.optimizer.name"));
  }
  const auto warmup = count(r, "scheduler.params.warmup_num_steps", 0),
             total = count(r, "scheduler.params.total_num_steps", 0);
  const std::string schedule =
      r.word("scheduler.type", {"WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest"}).value_or("");
  if (schedule == "OneCycle" || schedule == "LRRangeTest") {
    r.warn("scheduler.type", fmt::format("\"{}\" is not built: read as a constant rate", schedule));
  }
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
  const std::int64_t steps = std::min(kMost, times.value_or(1));
  const std::int64_t said = micro.value_or(all && times ? std::max<std::int64_t>(1, *all / (steps * dp)) : 1);
  r.set("strategy.micro_batch", said, "train_micro_batch_size_per_gpu");
  const std::int64_t each = std::clamp<std::int64_t>(r.integer_at("strategy.micro_batch", said), 1, kMost);
  if (all) {
    r.set("workload.global_batch", *all, "train_batch_size");
    if (micro && times && each * steps * dp != *all) {
      r.warn("train_batch_size", fmt::format("{} is not the microbatch {} x {} accumulation steps x {} ranks along dp: "
                                             "the batch counts; nodes=N says how many devices there are",
                                             *all, each, *times, dp));
    }
  } else {
    r.assume("workload.global_batch", each * steps * dp,
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
  if (!document.root().is_object()) {
    throw InputError(fmt::format("{}:{}: {} is not allowed; expected an object with DeepSpeed's settings", origin,
                                 document.line(""), shown(document.root())));
  }
  std::vector<Setting> settings;
  std::vector<std::string> automatic;
  flatten(document, document.root(), "", "", settings, automatic);
  SettingReader r("DeepSpeed JSON", origin, std::move(settings), overridden_fields(options.overrides));
  check_sections(r);
  for (const char* field : {"workload.model", "workload.seq_len"}) {
    if (r.value(field).is_null()) {
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
