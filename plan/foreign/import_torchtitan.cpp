// torchtitan's TOML or flags as a job.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "plan/foreign/toml.h"
#include "plan/foreign/torchtitan_readers.h"
#include "plan/foreign/torchtitan_words.h"
#include "workloads/model_file.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

// "--training.seq_len" of the command line as "training.seq_len" of a file; "--compile.no-enable" says false.
std::vector<Setting> as_in_file(std::vector<Setting> flags) {
  for (Setting& s : flags) {
    s.name.erase(0, 2);
    std::replace(s.name.begin(), s.name.end(), '-', '_');
    const std::size_t dot = s.name.rfind('.');
    if (dot != std::string::npos && s.name.compare(dot + 1, 3, "no_") == 0) {
      s.name.erase(dot + 1, 3);
      s.values = {"false"};
    }
  }
  return flags;
}

// Names that earlier versions had.
void rename(std::vector<Setting>& settings) {
  for (Setting& s : settings) {
    for (const auto& [old, now] :
         {std::pair{"training.batch_size", "training.local_batch_size"},
          {"training.tensor_parallel_degree", "parallelism.tensor_parallel_degree"},
          {"training.data_parallel_shard_degree", "parallelism.data_parallel_shard_degree"},
          {"training.data_parallel_replicate_degree", "parallelism.data_parallel_replicate_degree"},
          {"experimental.pipeline_parallel_degree", "parallelism.pipeline_parallel_degree"},
          {"experimental.pipeline_parallel_schedule", "parallelism.pipeline_parallel_schedule"},
          {"experimental.context_parallel_degree", "parallelism.context_parallel_degree"},
          {"training.compile", "compile.enable"}}) {
      s.name = s.name == old ? now : s.name;
    }
  }
}

// Of the model that the command line gives in place of the file's; 0 where it is none: the job's reader says so.
std::int64_t given_layers(const SettingReader& r) {
  const JsonDocument document =
      JsonDocument::from_text(json{{"model", r.value("workload.model")}}.dump(), "command line");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  const workloads::Model model = workloads::read_model(reader, "model", r.integer_at("workload.seq_len", 1));
  return mistakes.empty() ? model.layers : 0;
}

std::int64_t read_model(SettingReader& r) {
  const std::string family = r.text("model.name").value_or("llama3"),
                    flavor = r.text("model.flavor").value_or("debugmodel");
  if (r.is_given("workload.model")) {
    r.set_quietly("workload.model", nullptr);
    return given_layers(r);
  }
  std::vector<std::string> flavors;
  for (const TorchtitanModel& m : kTorchtitanModels) {
    if (m.name == family && m.flavor == flavor) {
      r.set("workload.model", m.model, "model.flavor");
      return workloads::load_model(catalogue_path(workloads::kModelFolder, "model", std::string(m.model))).layers;
    }
    flavors.push_back(fmt::format("{} {}", m.name, m.flavor));
  }
  r.mistake("model.flavor", fmt::format("\"{} {}\" is not known; expected one of: {}; or give model=NAME", family,
                                        flavor, fmt::join(flavors, ", ")));
  return 0;
}

void read_precision(SettingReader& r) {
  const Setting* converters = r.find("model.converters");
  const auto converted = [&](std::string_view part) {
    return converters != nullptr &&
           std::any_of(converters->values.begin(), converters->values.end(),
                       [&](const std::string& word) { return word.find(part) != std::string::npos; });
  };
  const std::string words = r.word("training.mixed_precision_param", {"bfloat16", "float32"}).value_or("bfloat16");
  if (converted("mx")) {
    r.set("workload.precision", "mxfp8", "model.converters");
  } else if (converted("float8")) {
    r.set("workload.precision", "fp8", "model.converters");
  } else {
    r.set("workload.precision", words == "bfloat16" ? "bf16" : "fp32", "training.mixed_precision_param");
  }
  if (r.word("training.dtype", {"bfloat16", "float32"}).value_or("float32") == "bfloat16") {
    r.warn("training.dtype", "states in bfloat16 are not built: forecast with fp32 ones");
  }
}

void read_recompute(SettingReader& r, std::int64_t layers, std::int64_t stages) {
  const std::string mode =
      r.word("activation_checkpoint.mode", {"selective", "full", "none", "memory_budget"}).value_or("selective");
  const std::string option = r.text("activation_checkpoint.selective_ac_option").value_or("2");
  const bool stops = r.flag("activation_checkpoint.early_stop");
  if (mode == "full") {
    r.set("strategy.recompute", "full", "activation_checkpoint.mode");
  } else if (mode == "none") {
    r.set("strategy.recompute", "none", "activation_checkpoint.mode");
  } else if (mode == "memory_budget") {
    r.warn("activation_checkpoint.mode",
           "\"memory_budget\" leaves the choice to a compiler: forecast without "
           "recompute");
  } else if (option == "op") {
    r.assume("strategy.recompute", json::array({"norm", "activation"}),
             "selective by op keeps attention's output and every second matmul's");
  } else if (std::int64_t every = 0; layers > 0) {
    every = r.integer("activation_checkpoint.selective_ac_option", 1).value_or(2);
    r.set("strategy.recompute", "full", "activation_checkpoint.selective_ac_option");
    r.assume("strategy.recompute_layers", layers / stages / every,
             fmt::format("of every {} layers one is computed again", every));
  }
  if (stops && r.value("strategy.recompute") == "full") {
    r.set("strategy.recompute_early_stop", true, "activation_checkpoint.early_stop");
  }
}

void read_batch(SettingReader& r) {
  const std::int64_t dp = data_parallel_size(r);
  constexpr std::int64_t kMostLocal = 1'000'000;
  std::int64_t local = std::min(r.integer("training.local_batch_size", 1).value_or(8), kMostLocal);
  const std::int64_t global = r.integer("training.global_batch_size", -1).value_or(-1);
  if (r.integer_at("strategy.pp", 1) == 1) {
    r.set("strategy.micro_batch", local, "training.local_batch_size");
    local = std::min(r.integer_at("strategy.micro_batch", local), kMostLocal);
  } else if (global > local * dp) {
    r.warn("training.global_batch_size",
           "a pipeline that runs several times in a step is forecast as one with more microbatches");
  }
  if (global > 0) {
    r.set("workload.global_batch", global, "training.global_batch_size");
  } else {
    r.assume("workload.global_batch", local * dp,
             fmt::format("training.local_batch_size {} x {} ranks along dp", local, dp));
  }
}

void read_optimizer(SettingReader& r) {
  const std::string kind = r.word("optimizer.name", {"AdamW", "Adam"}).value_or("AdamW");
  r.set("workload.optimizer.name", kind == "AdamW" ? "adamw" : "adam", "optimizer.name");
  const double rate = r.number("optimizer.lr", 0).value_or(8e-4);
  r.set_quietly("workload.optimizer.learning_rate", rate);
  r.set_quietly("workload.optimizer.beta1", r.number("optimizer.beta1", 0).value_or(0.9));
  r.set_quietly("workload.optimizer.beta2", r.number("optimizer.beta2", 0).value_or(0.95));
  r.set_quietly("workload.optimizer.eps", r.number("optimizer.eps", 0).value_or(1e-8));
  r.set_quietly("workload.optimizer.weight_decay", r.number("optimizer.weight_decay", 0).value_or(0.1));
  r.set_quietly("workload.optimizer.clip", r.number("training.max_norm", 0).value_or(1.0));
  const std::int64_t warmup = r.integer("lr_scheduler.warmup_steps", 0).value_or(200);
  const std::int64_t steps = r.integer("training.steps", 1).value_or(10000);
  const std::int64_t last = r.integer("lr_scheduler.total_steps", 1).value_or(steps);
  const std::string decay = r.word("lr_scheduler.decay_type", {"linear", "sqrt", "cosine"}).value_or("linear");
  const double low = r.number("lr_scheduler.min_lr_factor", 0).value_or(0);
  r.set_quietly("workload.optimizer.warmup_steps", warmup);
  if (low != 1 && last > warmup) {  // a factor of 1 decays nothing
    r.set_quietly("workload.optimizer.decay", decay == "cosine" ? "cosine" : "linear");
    r.set_quietly("workload.optimizer.decay_steps", last);
    r.set_quietly("workload.optimizer.min_learning_rate", rate * low);
  }
  if (r.has("lr_scheduler.decay_ratio")) {
    r.warn("lr_scheduler.decay_ratio",
           "a constant rate before the decay is not built: read as a decay from the warm-up "
           "on");
  }
  if (decay == "sqrt") {
    r.warn("lr_scheduler.decay_type", "\"sqrt\" is not built: read as linear");
  }
}

const std::vector<std::string> kTelling{"parallelism.", "training.", "model.",   "activation_checkpoint.",
                                        "quantize.",    "float8.",   "memory_e", "experimental.",
                                        "mx."};
const std::vector<std::string> kWithoutEffect{"training.dataset",
                                              "training.dataset_path",
                                              "training.gc_freq",
                                              "training.gc_debug",
                                              "training.seed",
                                              "training.deterministic",
                                              "training.mixed_precision_reduce",
                                              "model.hf_assets_path",
                                              "model.tokenizer_path",
                                              "model.print_after_conversion",
                                              "parallelism.disable_loss_parallel",
                                              "training.warmup_steps",
                                              "parallelism.context_parallel_load_balancer",
                                              "activation_checkpoint.preserve_rng_state",
                                              "activation_checkpoint.per_op_sac_force_recompute_mm_shapes_by_fqns",
                                              "experimental.custom_import",
                                              "quantize.linear.float8.filter_fqns",
                                              "quantize.linear.mx.filter_fqns",
                                              "quantize.linear.float8.precompute_float8_dynamic_scale_for_fsdp",
                                              "float8.filter_fqns",
                                              "compile.enable",
                                              "compile.components"};

}  // namespace

ImportedJob import_torchtitan(const std::string& text, const std::string& origin, const ImportOptions& options) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool flags = text.find("--training.") != std::string::npos || text.find("--parallelism.") != std::string::npos;
  LaunchWords launch;
  if (flags && text[first] != '[') {
    launch = launch_words(text, origin, options.variables);
    launch.settings = as_in_file(std::move(launch.settings));
  } else {
    launch.settings = read_toml(text, origin);
  }
  rename(launch.settings);
  SettingReader r(flags ? "torchtitan flags" : "torchtitan TOML", origin, launch.settings,
                  overridden_fields(options.overrides));
  if (r.has("job.config_file")) {
    r.warn("job.config_file",
           "that file is not read with the flags; import it, and give what the flags change as "
           "KEY=VALUE");
  }
  for (const TorchtitanInteger& w : kTorchtitanIntegers) {
    const auto value = r.integer(w.name, 1);
    value ? r.set(w.path, *value, w.name) : r.set_quietly(w.path, w.fallback);
  }
  const std::int64_t layers = read_model(r);
  set_cluster(r, launch, options.overrides);
  const std::int64_t chunks = read_torchtitan_pipeline(r, layers);
  read_torchtitan_data_parallel(r);
  read_batch(r);
  read_precision(r);
  r.set_quietly("workload.attention", "flash");
  if (r.integer_at("strategy.tp", 1) > 1) {
    r.set("strategy.sequence_parallel", true, "parallelism.tensor_parallel_degree");
  }
  if (r.integer_at("strategy.cp", 1) > 1) {
    const std::string way =
        r.word("parallelism.context_parallel_rotate_method", {"allgather", "alltoall"}).value_or("allgather");
    r.set("strategy.cp_kind", way == "allgather" ? "all_gather" : "ring", "parallelism.context_parallel_rotate_method");
  }
  const auto expert_tp = r.integer("parallelism.expert_tensor_parallel_degree", 1);
  if (r.integer_at("strategy.ep", 1) > 1) {
    r.set("strategy.expert_tp", expert_tp.value_or(1), "parallelism.expert_tensor_parallel_degree");
  }
  if (r.flag("training.enable_cpu_offload")) {
    r.set("strategy.offload", json::array({"optimizer"}), "training.enable_cpu_offload");
    r.warn("training.enable_cpu_offload",
           "parameters and gradients on the host are not built: forecast of the "
           "optimizer's state alone");
  }
  constexpr std::int64_t kMost = 1'000'000;
  const std::int64_t pp = std::min(r.integer_at("strategy.pp", 1), kMost);
  read_recompute(r, layers, std::max<std::int64_t>(1, pp * chunks));
  read_optimizer(r);
  if (!r.has("model.converters")) {
    r.ignore({"quantize.grouped_mm.float8.fqns", "quantize.grouped_mm.mx.fqns", "quantize.linear.mx.recipe_name",
              "quantize.linear.float8.enable_fsdp_float8_all_gather", "quantize.grouped_mm.mx.recipe_name"});
  }
  r.ignore(kWithoutEffect);
  ImportedJob job = r.finish(kTelling);
  job.warnings.insert(job.warnings.begin(), launch.notes.begin(), launch.notes.end());
  return finished(std::move(job), origin, options.overrides);
}

}  // namespace foretrain::plan
