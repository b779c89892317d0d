// A job as Megatron-LM's arguments.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/foreign/foreign.h"
#include "plan/foreign/megatron_layout.h"
#include "plan/foreign/megatron_words.h"
#include "plan/foreign/telling.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

void write_integers(Telling& t, FlagLines& out, const auto& table) {
  for (const MegatronInteger& w : table) {
    const json& value = t.at(w.path);
    if (!value.is_null() && value.get<std::int64_t>() != w.fallback) {
      out.add(w.flag, value.get<std::int64_t>());
    }
  }
}

void write_biases(Telling& t, FlagLines& out, bool experts) {
  const bool attention = t.flag("workload.model.attention_bias"), output = t.flag("workload.model.output_bias");
  const bool mlp = experts ? t.flag("workload.model.moe.bias") : t.flag("workload.model.mlp_bias");
  t.pass({"workload.model.mlp_bias"});
  if (attention && output && mlp) {
    return;
  }
  out.add("--disable-bias-linear");
  if (attention) {
    out.add("--add-qkv-bias");
  }
  if (output) {
    t.refuse("workload.model.output_bias", "no bias");
  }
  if (mlp) {
    t.refuse(experts ? "workload.model.moe.bias" : "workload.model.mlp_bias", "no bias");
  }
}

void write_positions(Telling& t, FlagLines& out, const workloads::Model& m) {
  const std::string kind = t.word("workload.model.positions");
  const std::int64_t places = t.integer("workload.model.max_positions");
  out.add("--position-embedding-type", kind == "rotary" ? "rope" : kind == "none" ? "none" : "learned_absolute");
  out.add("--max-position-embeddings", std::max(places, t.integer("workload.seq_len")));
  t.pass({"workload.model.rotary_base", "workload.model.rotary_scaling"});
  if (kind != "rotary") {
    return;
  }
  out.add("--rotary-base", static_cast<std::int64_t>(m.rotary.base));
  if (static_cast<double>(static_cast<std::int64_t>(m.rotary.base)) != m.rotary.base) {
    t.refuse("workload.model.rotary_base", "the integer below");
  }
  if (m.rotary_dim != m.head_dim && !m.has_mla()) {
    out.add("--rotary-percent", static_cast<double>(m.rotary_dim) / static_cast<double>(m.head_dim));
  }
  if (m.rotary.are_scaled()) {
    if (m.rotary.low == 1 && m.rotary.high == 4 && m.rotary.original_positions == 8192) {
      out.add("--use-rope-scaling");
      out.add("--rope-scaling-factor", m.rotary.factor);
    } else {
      t.refuse("workload.model.rotary_scaling", "none");
    }
  }
}

void write_activation(Telling& t, FlagLines& out) {
  const std::string word = t.word("workload.model.activation");
  if (word == "swiglu") {
    out.add("--swiglu");
  } else if (word == "swiglu_clamped") {
    out.add("--quick-geglu");
    out.add("--glu-linear-offset", 1.0);
    out.add("--activation-func-clamp-value", 7.0);
  } else if (word != "gelu") {
    t.refuse("workload.model.activation", "gelu");
  }
}

void write_experts(Telling& t, FlagLines& out, const workloads::Model& m) {
  if (m.moe.experts == 0) {
    return;
  }
  write_integers(t, out, kMegatronExperts);
  out.add("--moe-ffn-hidden-size", t.integer("workload.model.moe.ffn_hidden"));
  out.add("--moe-grouped-gemm");
  out.add("--moe-token-dispatcher-type", "alltoall");
  t.pass(
      {"workload.model.moe.shared_experts", "workload.model.moe.shared_ffn_hidden", "workload.model.moe.group_best"});
  if (m.moe.shared_experts > 0) {
    out.add("--moe-shared-expert-intermediate-size", m.moe.shared_width());
  }
  if (t.flag("workload.model.moe.shared_gate")) {
    out.add("--moe-shared-expert-gate");
  }
  const std::int64_t first = t.integer("workload.model.moe.first_dense_layers");
  const std::int64_t every = t.integer("workload.model.moe.every");
  if (first > 0) {
    out.add("--moe-layer-freq", fmt::format("([0]*{}+[1]*{})", first, m.layers - first));
    if (every > 1) {
      t.refuse("workload.model.moe.every", "experts in all further layers");
    }
  } else if (every > 1) {
    out.add("--moe-layer-freq", every);
  }
  const std::string router = t.word("workload.model.moe.router");
  out.add("--moe-router-score-function", router);
  if (t.flag("workload.model.moe.expert_bias")) {
    out.add("--moe-router-enable-expert-bias");
  }
  if (const std::int64_t groups = t.integer("workload.model.moe.top_groups"); m.moe.groups > 1) {
    out.add("--moe-router-group-topk", groups);
  }
  if (const double scale = t.number("workload.model.moe.weight_scale"); scale != 1) {
    out.add("--moe-router-topk-scaling-factor", scale);
  }
  if (!t.flag("workload.model.moe.normalize_weights")) {
    if (router == "softmax") {
      out.add("--moe-router-pre-softmax");
    } else {
      t.refuse("workload.model.moe.normalize_weights", "true");
    }
  }
  if (const double factor = t.number("workload.model.moe.capacity_factor"); factor > 0) {
    out.add("--moe-expert-capacity-factor", factor);
  }
  out.add("--moe-router-load-balancing-type", m.moe.aux_loss > 0 ? "aux_loss" : "none");
  if (const double loss = t.number("workload.model.moe.aux_loss"); loss > 0) {
    out.add("--moe-aux-loss-coeff", loss);
  }
}

void write_window(Telling& t, FlagLines& out) {
  if (const std::int64_t window = t.integer("workload.model.attention_window"); window > 0) {
    out.add("--window-size", fmt::format("{},0", window - 1));
  }
  if (const std::int64_t every = t.integer("workload.model.full_attention_every"); every > 0) {
    out.add("--window-attn-skip-freq", every);
  }
  if (t.flag("workload.model.attention_sinks")) {
    out.add("--softmax-type", "learnable");
  }
}

// A full table's last word is the end of documents that older releases count by themselves (megatron_model.cpp).
void write_vocabulary(Telling& t, FlagLines& out, const Job& job) {
  const std::int64_t vocab = t.integer("workload.model.vocab"), padded = t.integer("strategy.padded_vocab");
  const std::int64_t unit = padded > 0 ? padded / job.strategy.tp : kMegatronVocabUnit;
  const bool is_full = vocab > 1 && vocab % (unit * job.strategy.tp) == 0;
  out.add("--tokenizer-type", "NullTokenizer");
  out.add("--vocab-size", is_full ? vocab - 1 : vocab);
  if (unit != kMegatronVocabUnit) {
    out.add("--make-vocab-size-divisible-by", unit);
  }
}

void write_model(Telling& t, FlagLines& out, const Job& job) {
  const workloads::Model& m = job.workload.model;
  t.pass({"workload.model.head_dim", "workload.model.kv_heads"});
  if (m.has_mla()) {
    out.add("--multi-latent-attention");
    out.add("--qk-layernorm");  // of the latents
    t.pass({"workload.model.mla.q_rank"});
    for (const MegatronInteger& w : kMegatronLatent) {
      const std::int64_t value = t.integer(w.path);
      if (value != w.fallback && value > 0) {
        out.add(w.flag, value);
      }
    }
  } else {
    if (m.head_dim * m.heads != m.hidden) {
      out.add("--kv-channels", m.head_dim);
    }
    if (m.kv_heads != m.heads) {
      out.add("--group-query-attention");
      out.add("--num-query-groups", m.kv_heads);
    }
  }
  out.add("--ffn-hidden-size", t.integer("workload.model.ffn_hidden"));
  write_activation(t, out);
  out.add("--normalization", t.word("workload.model.norm") == "rmsnorm" ? "RMSNorm" : "LayerNorm");
  out.add("--norm-epsilon", t.number("workload.model.norm_eps"));
  write_biases(t, out, m.moe.experts > 0);
  write_positions(t, out, m);
  write_window(t, out);
  write_experts(t, out, m);
  write_vocabulary(t, out, job);
}

void write_precision(Telling& t, FlagLines& out) {
  const std::string word = t.word("workload.precision");
  if (word == "fp16") {
    out.add("--fp16");
  } else if (word == "bf16" || word == "fp8" || word == "mxfp8" || word == "nvfp4") {
    out.add("--bf16");
  } else if (word != "fp32") {
    t.refuse("workload.precision", "fp32");
  }
  if (word == "nvfp4") {
    out.add("--fp4-format", "e2m1");
  } else if (word == "fp8" || word == "mxfp8") {
    out.add("--fp8-format", "hybrid");
    out.add("--fp8-recipe", word == "mxfp8" ? "mxfp8" : "delayed");
  }
  const std::string attention = t.word("workload.attention");
  const bool plain = attention == "unfused" || attention == "fused_softmax";
  out.add("--attention-backend", plain ? "unfused" : attention == "cudnn" ? "fused" : "flash");
  if (attention == "unfused") {
    out.add("--no-masked-softmax-fusion");
  }
  if (attention == "flash3") {
    t.refuse("workload.attention", "flash: Transformer Engine takes FlashAttention 3 where it is installed");
  }
}

void write_optimizer(Telling& t, FlagLines& out) {
  const std::string kind = t.word("workload.optimizer.name");
  const bool sgd = kind == "sgd" || kind == "momentum";
  out.add("--optimizer", sgd ? "sgd" : "adam");
  if (!sgd && kind != "adamw" && !(kind == "adam" && t.number("workload.optimizer.weight_decay") == 0)) {
    t.refuse("workload.optimizer.name", "adam, which decays weights as adamw does");
  }
  for (const MegatronNumber& w : kMegatronAdam) {
    if (const double value = t.number(w.path); value != w.fallback) {
      out.add(w.flag, value);
    }
  }
  t.pass({"workload.optimizer.momentum"});
  if (sgd) {
    out.add("--sgd-momentum", kind == "sgd" ? 0.0 : t.number("workload.optimizer.momentum"));
  }
  out.add("--lr", t.number("workload.optimizer.learning_rate"));
  out.add("--min-lr", t.number("workload.optimizer.min_learning_rate"));
  const std::string decay = t.word("workload.optimizer.decay");
  const std::int64_t last = t.integer("workload.optimizer.decay_steps");
  out.add("--lr-decay-style", decay == "inverse_sqrt" ? "inverse-square-root" : last == 0 ? "constant" : decay);
  if (last > 0) {
    out.add("--lr-decay-iters", last);
  }
  if (const std::int64_t warmup = t.integer("workload.optimizer.warmup_steps"); warmup > 0) {
    out.add("--lr-warmup-iters", warmup);
  }
}

void write_recompute(Telling& t, FlagLines& out) {
  const json& words = t.at("strategy.recompute");
  if (words.is_array()) {
    std::string list;
    for (const json& word : words) {
      const auto found = std::find_if(kMegatronModules.begin(), kMegatronModules.end(),
                                      [&](const MegatronModule& m) { return m.job == word.get<std::string>(); });
      list += (list.empty() ? "" : " ") + std::string(found->megatron);
    }
    out.add("--recompute-granularity", "selective");
    out.add("--recompute-modules", list);
  } else if (words == "selective") {
    out.add("--recompute-granularity", "selective");
  } else if (words == "full") {
    const json& layers = t.at("strategy.recompute_layers");
    out.add("--recompute-granularity", "full");
    out.add("--recompute-method", layers.is_null() ? "uniform" : "block");
    if (layers.is_array()) {
      t.refuse("strategy.recompute_layers", "the most of any stage");
    }
    out.add("--recompute-num-layers", layers.is_null() ? std::int64_t{1}
                                      : layers.is_array()
                                          ? std::max_element(layers.begin(), layers.end())->get<std::int64_t>()
                                          : layers.get<std::int64_t>());
  }
}

void write_sharding(Telling& t, FlagLines& out, const Job& job) {
  const std::int64_t zero = t.integer("strategy.zero");
  const bool reshard = zero != 3 || t.flag("strategy.reshard");
  if (zero == 1) {
    out.add("--use-distributed-optimizer");
  } else if (zero >= 2 && reshard) {
    out.add("--use-megatron-fsdp");
    out.add("--data-parallel-sharding-strategy", zero == 2 ? "optim_grads" : "optim_grads_params");
  } else if (zero == 3) {
    out.add("--use-torch-fsdp2");
    out.add("--torch-fsdp2-no-reshard-after-forward");
  }
  if (const json& shard = t.at("strategy.shard"); !shard.is_null()) {
    out.add("--num-distributed-optimizer-instances", job.strategy.dp / shard.get<std::int64_t>());
  }
  if (t.flag("strategy.overlap_param_gather")) {
    out.add("--overlap-param-gather");
  }
  if (const std::int64_t bytes = job.strategy.bucket_bytes; bytes > 0) {
    t.pass({"strategy.bucket_bytes"});
    out.add("--ddp-bucket-size", (bytes + 3) / 4);
    if (bytes % 4 != 0) {
      t.refuse("strategy.bucket_bytes", "the next number of parameters, of 4 bytes each");
    }
  }
  const std::string compression = t.word("strategy.compression");
  if (compression == "bf16") {
    out.add("--grad-reduce-in-bf16");
  } else if (compression != "none") {
    t.refuse("strategy.compression", "none");
  }
}

void write_pipeline(Telling& t, FlagLines& out, const Job& job) {
  const Strategy& s = job.strategy;
  t.pass({"strategy.layers_per_stage"});
  const std::string schedule = t.word("strategy.schedule");
  if (schedule != "1f1b" && schedule != "interleaved") {
    t.refuse("strategy.schedule", s.virtual_stages > 1 ? "interleaved 1F1B" : "1F1B");
  }
  const std::vector<std::int64_t> layers = layers_per_stage(job);
  const bool even = std::all_of(layers.begin(), layers.end(), [&](std::int64_t n) { return n == layers.front(); });
  const std::int64_t chunks = t.integer("strategy.virtual_stages");
  if (!even) {
    out.add("--pipeline-model-parallel-layout", fmt::format("\"{}\"", layout_of(layers)));
  } else if (chunks > 1) {
    out.add("--num-virtual-stages-per-pipeline-rank", chunks);
  }
}

void write_parallel(Telling& t, FlagLines& out, const Job& job) {
  if (job.workload.model.moe.experts > 0 && job.strategy.expert_tp != job.strategy.tp) {
    out.add("--expert-tensor-parallel-size", t.integer("strategy.expert_tp"));
  }
  if (const std::string kind = t.word("strategy.cp_kind"); job.strategy.cp > 1 && kind != "ring") {
    out.add("--cp-comm-type", kind == "all_to_all" ? "a2a" : "allgather");
  }
  write_pipeline(t, out, job);
  write_sharding(t, out, job);
  write_recompute(t, out);
  if (const std::string order = t.word("strategy.rank_order"); order == "dp,pp,cp,tp") {
    out.add("--use-tp-pp-dp-mapping");
  } else if (order != "pp,dp,cp,tp") {
    t.refuse("strategy.rank_order", "pp,dp,cp,tp");
  }
  t.pass({"strategy.offload", "strategy.offload_layers"});
  if (job.strategy.offload_optimizer) {
    out.add("--optimizer-cpu-offload");
  }
  if (job.strategy.offload_activations) {
    const std::vector<std::int64_t> layers = layers_per_stage(job);
    out.add("--cpu-offloading-num-layers", job.strategy.offload_layers >= 0
                                               ? job.strategy.offload_layers
                                               : *std::max_element(layers.begin(), layers.end()));
  }
}

}  // namespace

ExportedJob export_megatron(const Job& job) {
  Telling t(job, "Megatron-LM");
  FlagLines out;
  t.pass({"workload.data"});
  write_integers(t, out, kMegatronIntegers);
  out.add("--global-batch-size", t.integer("workload.global_batch"));
  for (const MegatronFlag& w : kMegatronFlags) {
    if (t.flag(w.path) == w.present) {
      out.add(w.flag);
    }
  }
  write_model(t, out, job);
  write_precision(t, out);
  write_parallel(t, out, job);
  write_optimizer(t, out);
  // The job has no dropout, and no data of its own that Megatron-LM could read.
  out.add("--attention-dropout", 0.0);
  out.add("--hidden-dropout", 0.0);
  out.add("--train-iters", std::int64_t{100});
  out.add("--mock-data");
  return {{{"megatron.args", out.text()}}, t.warnings()};
}

}  // namespace foretrain::plan
