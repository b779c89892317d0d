// A job as DeepSpeed's JSON. The model, and how it is cut over tensor-parallel ranks and stages, are the script's.
#include <fmt/format.h>

#include <algorithm>

#include "plan/foreign/foreign.h"
#include "plan/foreign/telling.h"

namespace foretrain::plan {

namespace {

using Json = nlohmann::ordered_json;

Json optimizer(Telling& t) {
  const std::string kind = t.word("workload.optimizer.name");
  t.pass({"workload.optimizer.momentum"});
  Json params{{"lr", t.number("workload.optimizer.learning_rate")},
              {"betas", {t.number("workload.optimizer.beta1"), t.number("workload.optimizer.beta2")}},
              {"eps", t.number("workload.optimizer.eps")},
              {"weight_decay", t.number("workload.optimizer.weight_decay")}};
  if (kind == "adam") {
    params["adam_w_mode"] = false;
  } else if (kind != "adamw" && kind != "lamb") {
    t.refuse("workload.optimizer.name", "AdamW");
  }
  return {{"type", kind == "lamb" ? "Lamb" : kind == "adam" ? "Adam" : "AdamW"}, {"params", std::move(params)}};
}

void write_schedule(Telling& t, Json& out) {
  const std::int64_t warmup = t.integer("workload.optimizer.warmup_steps");
  const std::int64_t last = t.integer("workload.optimizer.decay_steps");
  const std::string decay = t.word("workload.optimizer.decay");
  if (last > 0) {
    out["scheduler"] = {{"type", decay == "cosine" ? "WarmupCosineLR" : "WarmupDecayLR"},
                        {"params", {{"warmup_num_steps", warmup}, {"total_num_steps", last}}}};
  } else if (warmup > 0) {
    out["scheduler"] = {{"type", "WarmupLR"}, {"params", {{"warmup_num_steps", warmup}}}};
  }
  if (last > 0 && decay == "inverse_sqrt") {
    t.refuse("workload.optimizer.decay", "linear");
  }
}

Json sharding(Telling& t, const Job& job) {
  const std::int64_t zero = t.integer("strategy.zero");
  Json out{{"stage", zero}, {"overlap_comm", t.flag("strategy.overlap_grad_reduce")}, {"contiguous_gradients", true}};
  t.pass({"strategy.bucket_bytes", "strategy.offload"});
  if (const std::int64_t bytes = job.strategy.bucket_bytes; bytes > 0 && zero < 2) {
    out["reduce_bucket_size"] = bytes / 4;
  } else if (bytes > 0) {
    t.refuse("strategy.bucket_bytes", "DeepSpeed's own");
  }
  if (job.strategy.shard > 0) {
    t.pass({"strategy.shard"});
    out["mics_shard_size"] = job.strategy.shard;
  }
  if (job.strategy.offload_optimizer) {
    out["offload_optimizer"] = {{"device", "cpu"}, {"pin_memory", true}};
  }
  if (job.strategy.offload_activations) {
    t.refuse("strategy.offload", "none of activations");
  }
  return out;
}

// What a script says with it, and this file does not.
void pass_script(Telling& t, const Job& job, Json& out) {
  t.pass({"workload.model", "workload.seq_len", "workload.data", "workload.attention", "strategy.layers_per_stage",
          "strategy.recompute", "strategy.recompute_layers", "strategy.recompute_early_stop"});
  if (const std::int64_t tp = t.integer("strategy.tp"); tp > 1) {
    out["tensor_parallel"] = {{"autotp_size", tp}};
  }
  const std::string kind = t.word("strategy.cp_kind");
  if (const std::int64_t cp = t.integer("strategy.cp"); cp > 1 && kind == "all_to_all") {
    out["sequence_parallel_size"] = cp;
  } else if (cp > 1) {
    t.refuse("strategy.cp_kind", "none: only all_to_all (Ulysses) is DeepSpeed's");
  }
  if (job.strategy.tp == 1) {
    t.pass({"strategy.sequence_parallel"});
  }
  if (const Recompute r = job.strategy.recompute; r != Recompute::none) {
    t.refuse("strategy.recompute", "nothing: the script calls deepspeed.checkpointing");
  }
}

}  // namespace

ExportedJob export_deepspeed(const Job& job) {
  Telling t(job, "DeepSpeed's JSON");
  const std::int64_t micro = t.integer("strategy.micro_batch");
  Json out{{"train_batch_size", t.integer("workload.global_batch")},
           {"train_micro_batch_size_per_gpu", micro},
           {"gradient_accumulation_steps", job.microbatches()}};
  const std::string precision = t.word("workload.precision");
  if (precision == "bf16" || precision == "fp16") {
    out[precision] = {{"enabled", true}};
  } else if (precision != "fp32") {
    t.refuse("workload.precision", "bf16");
    out["bf16"] = {{"enabled", true}};
  }
  out["zero_optimization"] = sharding(t, job);
  out["optimizer"] = optimizer(t);
  write_schedule(t, out);
  out["gradient_clipping"] = t.number("workload.optimizer.clip");
  const std::string compression = t.word("strategy.compression");
  if (compression == "fp16" || compression == "bf16") {
    out["communication_data_type"] = compression;
  } else if (compression != "none") {
    t.refuse("strategy.compression", "none");
  }
  pass_script(t, job, out);
  return {{{"ds_config.json", out.dump(2) + "\n"}}, t.warnings()};
}

}  // namespace foretrain::plan
