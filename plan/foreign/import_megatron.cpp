// Megatron-LM's arguments, alone or in a launch script, as a job.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "plan/foreign/launch_words.h"
#include "plan/foreign/megatron_readers.h"
#include "plan/foreign/megatron_words.h"

namespace foretrain::plan {

namespace {

std::int64_t steps(SettingReader& r, const char* by_iterations, const char* by_samples) {
  if (const auto n = r.integer(by_iterations, 0)) {
    return *n;
  }
  const auto samples = r.integer(by_samples, 0);
  return samples ? *samples / std::max<std::int64_t>(1, r.integer_at("workload.global_batch", 1)) : 0;
}

void read_optimizer(SettingReader& r) {
  const std::string kind =
      r.word("--optimizer", {"adam", "sgd", "muon", "dist_muon", "adaptive_muon", "lion", "soap"}).value_or("adam");
  const auto momentum = r.number("--sgd-momentum", 0);
  for (const MegatronNumber& w : kMegatronAdam) {
    const auto value = r.number(w.flag, 0);
    value ? r.set(w.path, *value, w.flag) : r.set_quietly(w.path, w.fallback);
  }
  // Megatron-LM's adam decays weights as adamw does.
  const bool decays = r.value("workload.optimizer.weight_decay") != 0;
  const bool moves = momentum.value_or(0.9) > 0;
  r.set("workload.optimizer.name",
        kind != "sgd" ? (decays ? "adamw" : "adam")
        : moves       ? "momentum"
                      : "sgd",
        "--optimizer");
  if (kind != "adam" && kind != "sgd") {
    r.warn("--optimizer", fmt::format("{} is not built: forecast as adam, of other work and state", kind));
  }
  if (kind == "sgd" && momentum.value_or(0.9) > 0) {
    r.set_quietly("workload.optimizer.momentum", momentum.value_or(0.9));
  }
  if (const auto rate = r.number("--lr", 0)) {
    r.set("workload.optimizer.learning_rate", *rate, "--lr");
  }
  if (const auto rate = r.number("--min-lr", 0)) {
    r.set("workload.optimizer.min_learning_rate", *rate, "--min-lr");
  }
  const std::string decay =
      r.word("--lr-decay-style", {"linear", "cosine", "inverse-square-root", "constant", "WSD"}).value_or("linear");
  if (decay != "constant") {
    r.set_quietly("workload.optimizer.decay", decay == "cosine"                ? "cosine"
                                              : decay == "inverse-square-root" ? "inverse_sqrt"
                                                                               : "linear");
  }
  const std::int64_t warmup = steps(r, "--lr-warmup-iters", "--lr-warmup-samples");
  std::int64_t last = steps(r, "--lr-decay-iters", "--lr-decay-samples");
  last = last > 0 ? last : steps(r, "--train-iters", "--train-samples");
  r.set_quietly("workload.optimizer.warmup_steps", warmup);
  if (decay != "constant" && last > warmup) {
    r.set_quietly("workload.optimizer.decay_steps", last);
  }
}

const std::vector<std::string> kWithoutEffect{"--use-mcore-models",
                                              "--use-legacy-models",
                                              "--attention-dropout",
                                              "--hidden-dropout",
                                              "--attention-softmax-in-fp32",
                                              "--accumulate-allreduce-grads-in-fp32",
                                              "--moe-grouped-gemm",
                                              "--moe-permute-fusion",
                                              "--moe-router-fusion",
                                              "--moe-router-dtype",
                                              "--moe-token-dispatcher-type",
                                              "--moe-router-bias-update-rate",
                                              "--moe-per-layer-logging",
                                              "--moe-z-loss-coeff",
                                              "--initial-loss-scale",
                                              "--loss-scale",
                                              "--min-loss-scale",
                                              "--fp8-amax-history-len",
                                              "--fp8-amax-compute-algo",
                                              "--fp8-margin",
                                              "--fp8-interval",
                                              "--no-bias-swiglu-fusion",
                                              "--distributed-backend",
                                              "--distributed-timeout-minutes",
                                              "--apply-layernorm-1p",
                                              "--init-method-std",
                                              "--no-rope-fusion",
                                              "--cross-entropy-loss-fusion",
                                              "--cross-entropy-fusion-impl",
                                              "--no-check-for-nan-in-loss-and-grad",
                                              "--num-layers-at-start-in-bf16",
                                              "--override-opt_param-scheduler",
                                              "--use-checkpoint-opt_param-scheduler",
                                              "--override-opt-param-scheduler",
                                              "--ckpt-fully-parallel-save",
                                              "--no-load-optim",
                                              "--no-save-optim",
                                              "--clone-scatter-output-in-embedding",
                                              "--manual-gc",
                                              "--calculate-per-token-loss"};

// Parts of names that tell of work, memory or traffic.
const std::vector<std::string> kTelling{
    "parallel", "pipeline", "recompute", "overlap",     "expert",    "moe-",          "shard",      "fsdp",
    "zero",     "offload",  "fp8",       "fp4",         "precision", "micro",         "batch",      "layer",
    "hidden",   "head",     "attention", "attn",        "mtp",       "mla",           "lora",       "mamba",
    "hybrid",   "linear",   "rampup",    "grad-reduce", "bucket",    "-activations",  "cuda-graph", "gtp",
    "dtype",    "dualpipe", "comm",      "sliding",     "spec",      "checkpointing", "wgrad",      "fp32-residual"};

// Programs of github:NVIDIA/Megatron-LM that train something else.
void check_program(const std::string& program, const std::string& origin) {
  for (const char* other : {"pretrain_bert.py", "pretrain_t5.py", "pretrain_mamba.py", "pretrain_hybrid.py",
                            "pretrain_retro.py", "pretrain_vlm.py", "pretrain_ict.py", "pretrain_vision_classify.py",
                            "pretrain_vision_dino.py", "pretrain_vision_inpaint.py"}) {
    if (program == other) {
      throw InputError(
          fmt::format("{}: {} trains no decoder of transformer layers; expected such a one "
                      "(pretrain_gpt.py); `foretrain list models` has others",
                      origin, program));
    }
  }
}

}  // namespace

ImportedJob import_megatron(const std::string& text, const std::string& origin, const ImportOptions& options) {
  LaunchWords launch = launch_words(text, origin, options.variables);
  check_program(launch.program, origin);
  SettingReader r(launch.is_script ? "launch script of Megatron-LM" : "Megatron-LM arguments", origin,
                  std::move(launch.settings), overridden_fields(options.overrides));
  r.set_quietly("workload.model.architecture", "decoder");
  r.set_quietly("workload.model.name", "megatron");
  read_megatron_integers(r, kMegatronIntegers);
  for (const MegatronFlag& w : kMegatronFlags) {
    if (r.flag(w.flag)) {
      r.set(w.path, w.present, w.flag);
    } else {
      r.set_quietly(w.path, !w.present);
    }
  }
  read_megatron_model(r);
  if (!r.has("--micro-batch-size")) {
    r.assume("strategy.micro_batch", 1, "--micro-batch-size is not given");
  }
  set_cluster(r, launch, options.overrides);
  if (const auto batch = r.integer("--global-batch-size", 1)) {
    r.set("workload.global_batch", *batch, "--global-batch-size");
  } else {
    r.assume("workload.global_batch", r.integer_at("strategy.micro_batch", 1) * data_parallel_size(r),
             "--global-batch-size is not given: a microbatch for each rank along dp");
  }
  read_optimizer(r);
  read_megatron_strategy(r);
  if (const auto instances = r.integer("--num-distributed-optimizer-instances", 1);
      instances && *instances > 1 && data_parallel_size(r) % *instances == 0) {
    r.set("strategy.shard", data_parallel_size(r) / *instances, "--num-distributed-optimizer-instances");
  }
  if (r.has("--rampup-batch-size")) {
    r.warn("--rampup-batch-size", "the forecast is of a step at the full --global-batch-size");
  }
  if (r.has("--tp-comm-overlap")) {
    r.warn("--tp-comm-overlap", "is not built: tensor-parallel communication is forecast without it");
  }
  r.ignore(kWithoutEffect);
  ImportedJob job = r.finish(kTelling);
  job.warnings.insert(job.warnings.begin(), launch.notes.begin(), launch.notes.end());
  return finished(std::move(job), origin, options.overrides);
}

}  // namespace foretrain::plan
