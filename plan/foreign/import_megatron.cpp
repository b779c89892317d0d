// Megatron-LM's arguments, alone or in a launch script, as a job.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "plan/foreign/finish_import.h"
#include "plan/foreign/foreign.h"
#include "plan/foreign/launch_words.h"
#include "plan/foreign/megatron_layout.h"
#include "plan/foreign/megatron_words.h"
#include "plan/foreign/shell_script.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

constexpr std::int64_t kGpt2Vocab = 50257;

void read_integers(SettingReader& r, auto& table) {
  for (const MegatronInteger& w : table) {
    if (const auto value = r.integer(w.flag, w.low)) {
      r.set(w.path, *value, w.flag);
    } else if (w.fallback >= 0) {
      r.set_quietly(w.path, w.fallback);
    }
  }
}

void read_latent(SettingReader& r) {
  if (r.flag("--multi-latent-attention")) {
    read_integers(r, kMegatronLatent);
  }
}

void read_rotary(SettingReader& r) {
  const double percent = r.number("--rotary-percent", 0).value_or(1.0);
  if (percent < 1.0) {
    const std::int64_t head_dim = r.integer_at("workload.model.head_dim", 0);
    r.set("workload.model.rotary_dim", std::max<std::int64_t>(1, std::llround(percent * static_cast<double>(head_dim))),
          "--rotary-percent");
  }
  if (const auto base = r.number("--rotary-base", 1)) {
    r.set("workload.model.rotary_base", *base, "--rotary-base");
  }
  if (r.flag("--use-rope-scaling")) {
    // The other three numbers are fixed: megatron/core/models/common/embeddings/rotary_pos_embedding.py.
    r.set("workload.model.rotary_scaling",
          {{"factor", r.number("--rope-scaling-factor", 1).value_or(8.0)},
           {"low", 1.0},
           {"high", 4.0},
           {"original_positions", 8192}},
          "--use-rope-scaling");
  }
}

void read_positions(SettingReader& r) {
  const std::string kind =
      r.word("--position-embedding-type", {"learned_absolute", "rope", "none", "yarn", "mrope", "relative"})
          .value_or("learned_absolute");
  const bool rotary = r.flag("--use-rotary-position-embeddings") || kind == "rope" || kind == "yarn" || kind == "mrope";
  if (kind == "relative") {
    r.mistake("--position-embedding-type",
              "\"relative\" is of encoder_decoder models; expected learned_absolute, rope "
              "or none");
  }
  if (kind == "yarn" || kind == "mrope") {
    r.warn("--position-embedding-type", fmt::format("{} changes angles, not work; read as rope", kind));
  }
  r.set(
      "workload.model.positions",
      rotary           ? "rotary"
      : kind == "none" ? "none"
                       : "learned",
      r.has("--position-embedding-type") || !rotary ? "--position-embedding-type" : "--use-rotary-position-embeddings");
  const auto places = r.integer("--max-position-embeddings", 1);
  if (rotary) {
    read_rotary(r);
  } else if (kind == "learned_absolute" && places) {
    r.set("workload.model.max_positions", *places, "--max-position-embeddings");
  }
}

void read_activation(SettingReader& r, std::int64_t hidden) {
  const bool swiglu = r.flag("--swiglu"), squared = r.flag("--squared-relu"), quick = r.flag("--quick-geglu");
  const bool gated = swiglu || quick;
  if (quick) {
    r.number("--glu-linear-offset", 0);
    r.number("--activation-func-clamp-value", 0);
    r.set("workload.model.activation", "swiglu_clamped", "--quick-geglu");
  } else if (swiglu) {
    r.set("workload.model.activation", "swiglu", "--swiglu");
  } else if (squared) {
    r.set("workload.model.activation", "relu", "--squared-relu");
    r.warn("--squared-relu", "the square is left out of the forecast");
  } else {
    r.set_quietly("workload.model.activation", "gelu");
  }
  if (const auto ffn = r.integer("--ffn-hidden-size", 1)) {
    r.set("workload.model.ffn_hidden", *ffn, "--ffn-hidden-size");
  } else {
    r.set_quietly("workload.model.ffn_hidden", gated ? hidden * 8 / 3 / 64 * 64 : 4 * hidden);
  }
}

void read_biases(SettingReader& r) {
  const bool none = r.flag("--disable-bias-linear");
  const bool of_qkv = r.flag("--add-qkv-bias");
  const bool experts = r.has("--num-experts");
  if (none) {
    r.set("workload.model.mlp_bias", false, "--disable-bias-linear");
  } else {
    r.set_quietly("workload.model.mlp_bias", !experts);
  }
  r.set_quietly("workload.model.attention_bias", !none || of_qkv);
  r.set_quietly("workload.model.output_bias", !none);
  if (of_qkv) {
    r.set("workload.model.attention_bias", true, "--add-qkv-bias");
  }
  if (experts && !none) {
    r.set_quietly("workload.model.moe.bias", true);
  }
}

// A window of (left, right) keys beside the query's own.
void read_window(SettingReader& r) {
  if (const auto text = r.text("--window-size")) {
    std::string left = *text;
    left.erase(std::remove_if(left.begin(), left.end(), [](char c) { return c == '(' || c == ' '; }), left.end());
    std::int64_t keys = 0;
    const auto end = std::from_chars(left.data(), left.data() + left.size(), keys);
    if (end.ec != std::errc{} || keys < 0 || keys > 1'000'000'000) {
      r.mistake("--window-size",
                fmt::format("\"{}\" is not allowed; expected LEFT,RIGHT, keys before and behind", *text));
      return;
    }
    r.set("workload.model.attention_window", keys + 1, "--window-size");
  }
  if (r.has("--window-attn-skip-freq")) {
    if (const auto every = r.integer("--window-attn-skip-freq", 1)) {
      r.set("workload.model.full_attention_every", *every, "--window-attn-skip-freq");
    }
  }
  if (r.word("--softmax-type", {"vanilla", "off-by-one", "learnable"}).value_or("vanilla") == "learnable") {
    r.set("workload.model.attention_sinks", true, "--softmax-type");
  }
}

void read_vocabulary(SettingReader& r) {
  const std::string tokenizer = r.text("--tokenizer-type").value_or("");
  if (const auto vocab = r.integer("--vocab-size", 1)) {
    r.set("workload.model.vocab", *vocab, "--vocab-size");
  } else if (tokenizer == "GPT2BPETokenizer") {
    r.assume("workload.model.vocab", kGpt2Vocab, "GPT-2's, as --tokenizer-type GPT2BPETokenizer says");
  } else if (tokenizer == "Llama2Tokenizer") {
    r.assume("workload.model.vocab", 32000, "Llama 2's, as --tokenizer-type Llama2Tokenizer says");
  } else {
    r.assume("workload.model.vocab", 128256,
             "Llama 3's: the tokenizer's file says it, and it is not here; give it with vocab=N");
  }
  if (const auto unit = r.integer("--make-vocab-size-divisible-by", 1)) {
    const std::int64_t step = *unit * r.integer("--tensor-model-parallel-size", 1).value_or(1);
    const std::int64_t vocab = r.integer_at("workload.model.vocab", 0);
    if (*unit != 128 && vocab > 0 && step < 1'000'000'000) {
      r.set("strategy.padded_vocab", (vocab + step - 1) / step * step, "--make-vocab-size-divisible-by");
    }
  }
}

// 1 in every N, or a list such as ([0]*3+[1]*58): 3 layers without experts, then all with them.
void read_expert_layers(SettingReader& r) {
  const auto text = r.text("--moe-layer-freq");
  if (!text) {
    return;
  }
  std::string digits = *text;
  digits.erase(std::remove_if(digits.begin(), digits.end(),
                              [](char c) { return c == '(' || c == ')' || c == ' ' || c == '"' || c == '\''; }),
               digits.end());
  std::int64_t number = 0;
  const auto whole = [&](std::string_view s) {
    const auto end = std::from_chars(s.data(), s.data() + s.size(), number);
    return end.ec == std::errc{} && end.ptr == s.data() + s.size() && number >= 0;
  };
  if (whole(digits) && number >= 1) {
    if (number > 1) {
      r.set("workload.model.moe.every", number, "--moe-layer-freq");
      r.warn("--moe-layer-freq", "the first of every so many layers has experts there, here the last: equally many");
    }
    return;
  }
  const std::size_t plus = digits.find("+[1]*");
  if (digits.starts_with("[1]*") && whole(std::string_view(digits).substr(4))) {
    return;
  }
  if (digits.starts_with("[0]*") && plus != std::string::npos && whole(std::string_view(digits).substr(4, plus - 4))) {
    r.set("workload.model.moe.first_dense_layers", number, "--moe-layer-freq");
    return;
  }
  r.mistake("--moe-layer-freq", fmt::format("\"{}\" is not built; expected an integer >= 1, or ([0]*A+[1]*B)", *text));
}

void read_experts(SettingReader& r) {
  if (!r.has("--num-experts")) {
    return;
  }
  read_integers(r, kMegatronExperts);
  if (const auto width = r.integer("--moe-ffn-hidden-size", 1)) {
    r.set("workload.model.moe.ffn_hidden", *width, "--moe-ffn-hidden-size");
  } else {
    r.set_quietly("workload.model.moe.ffn_hidden", r.value("workload.model.ffn_hidden"));
  }
  if (const auto width = r.integer("--moe-shared-expert-intermediate-size", 1)) {
    r.set("workload.model.moe.shared_experts", 1, "--moe-shared-expert-intermediate-size");
    r.set("workload.model.moe.shared_ffn_hidden", *width, "--moe-shared-expert-intermediate-size");
  }
  if (r.flag("--moe-shared-expert-gate")) {
    r.set("workload.model.moe.shared_gate", true, "--moe-shared-expert-gate");
  }
  read_expert_layers(r);
  const std::string router = r.word("--moe-router-score-function", {"softmax", "sigmoid"}).value_or("softmax");
  r.set_quietly("workload.model.moe.router", router);
  r.set_quietly("workload.model.moe.expert_bias", r.flag("--moe-router-enable-expert-bias"));
  if (const auto groups = r.integer("--moe-router-group-topk", 1)) {
    r.set("workload.model.moe.top_groups", *groups, "--moe-router-group-topk");
  }
  if (const auto scale = r.number("--moe-router-topk-scaling-factor", 0)) {
    r.set("workload.model.moe.weight_scale", *scale, "--moe-router-topk-scaling-factor");
  }
  // Scores of all experts, before the choice: they need not sum to one then.
  if (r.flag("--moe-router-pre-softmax") && router == "softmax") {
    r.set("workload.model.moe.normalize_weights", false, "--moe-router-pre-softmax");
  }
  if (const auto factor = r.number("--moe-expert-capacity-factor", 0)) {
    r.set("workload.model.moe.capacity_factor", *factor, "--moe-expert-capacity-factor");
  }
  const std::string balance = r.text("--moe-router-load-balancing-type").value_or("aux_loss");
  if (const auto loss = r.number("--moe-aux-loss-coeff", 0); loss && balance == "aux_loss") {
    r.set("workload.model.moe.aux_loss", *loss, "--moe-aux-loss-coeff");
  }
}

void read_model(SettingReader& r) {
  for (const char* flag : {"--num-layers", "--hidden-size", "--num-attention-heads", "--seq-length"}) {
    if (!r.has(flag)) {
      r.mistake(flag, "is missing: without it no model is known");
    }
  }
  const std::int64_t hidden = std::min<std::int64_t>(r.integer_at("workload.model.hidden", 1), 1'000'000'000);
  const std::int64_t heads = r.integer_at("workload.model.heads", 1);
  if (const auto channels = r.integer("--kv-channels", 1)) {
    r.set("workload.model.head_dim", *channels, "--kv-channels");
  } else if (!r.has("--multi-latent-attention")) {
    r.set_quietly("workload.model.head_dim", std::max<std::int64_t>(1, hidden / heads));
  }
  const auto groups = r.integer("--num-query-groups", 1);
  if (r.flag("--group-query-attention") && groups) {
    r.set("workload.model.kv_heads", *groups, "--num-query-groups");
  } else if (groups && *groups != heads) {
    r.warn("--num-query-groups", "without --group-query-attention it has no effect");
  }
  const std::string norm = r.word("--normalization", {"LayerNorm", "RMSNorm"}).value_or("LayerNorm");
  r.set("workload.model.norm", norm == "LayerNorm" ? "layernorm" : "rmsnorm", "--normalization");
  if (const auto eps = r.number("--norm-epsilon", 0)) {
    r.set("workload.model.norm_eps", *eps, "--norm-epsilon");
  }
  read_activation(r, hidden);
  read_biases(r);
  read_positions(r);
  read_latent(r);
  read_window(r);
  read_experts(r);
  read_vocabulary(r);
}

void read_precision(SettingReader& r) {
  const bool bf16 = r.flag("--bf16"), fp16 = r.flag("--fp16");
  const auto fp8 = r.text("--fp8-format"), fp4 = r.text("--fp4-format");
  const std::string recipe = r.text("--fp8-recipe").value_or("delayed");
  const char* word = fp4    ? "nvfp4"
                     : fp8  ? (recipe == "mxfp8" ? "mxfp8" : "fp8")
                     : bf16 ? "bf16"
                     : fp16 ? "fp16"
                            : "fp32";
  r.set("workload.precision", word, fp4 ? "--fp4-format" : fp8 ? "--fp8-format" : bf16 ? "--bf16" : "--fp16");
  if (!bf16 && !fp16 && !fp8 && !fp4) {
    r.warn_of_file("neither --bf16 nor --fp16 is given: Megatron-LM computes in fp32 then");
  }
}

void read_attention(SettingReader& r) {
  const bool flash = r.flag("--use-flash-attn");
  const std::string backend =
      r.word("--attention-backend", {"flash", "fused", "unfused", "local", "auto"}).value_or("auto");
  const bool masked_fusion = !r.flag("--no-masked-softmax-fusion");
  if (backend == "unfused" || backend == "local") {
    r.set("workload.attention", masked_fusion ? "fused_softmax" : "unfused", "--attention-backend");
  } else if (backend == "fused") {
    r.set("workload.attention", "cudnn", "--attention-backend");
  } else if (flash) {
    r.set("workload.attention", "flash", "--use-flash-attn");
  } else if (backend == "flash") {
    r.set("workload.attention", "flash", "--attention-backend");
  } else {
    r.assume("workload.attention", "flash", "Transformer Engine chooses (--attention-backend auto)");
  }
}

std::int64_t steps(SettingReader& r, const char* by_iterations, const char* by_samples) {
  if (const auto n = r.integer(by_iterations, 0)) {
    return *n;
  }
  const auto samples = r.integer(by_samples, 0);
  return samples ? *samples / std::max<std::int64_t>(1, r.integer_at("workload.global_batch", 1)) : 0;
}

void read_optimizer(SettingReader& r) {
  const std::string kind = r.word("--optimizer", {"adam", "sgd"}).value_or("adam");
  const auto momentum = r.number("--sgd-momentum", 0);
  for (const MegatronNumber& w : kMegatronAdam) {
    const auto value = r.number(w.flag, 0);
    value ? r.set(w.path, *value, w.flag) : r.set_quietly(w.path, w.fallback);
  }
  // Megatron-LM's adam decays weights as adamw does.
  const bool decays = r.value("workload.optimizer.weight_decay") != 0;
  const bool moves = momentum.value_or(0.9) > 0;
  r.set("workload.optimizer.name",
        kind == "adam" ? (decays ? "adamw" : "adam")
        : moves        ? "momentum"
                       : "sgd",
        "--optimizer");
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

void read_sharding(SettingReader& r) {
  const bool distributed = r.flag("--use-distributed-optimizer");
  const bool torch_fsdp = r.flag("--use-torch-fsdp2");
  const bool fsdp = r.flag("--use-megatron-fsdp") || r.flag("--use-custom-fsdp");
  const auto kind =
      r.word("--data-parallel-sharding-strategy", {"no_shard", "optim", "optim_grads", "optim_grads_params"});
  if (torch_fsdp) {
    r.set("strategy.zero", 3, "--use-torch-fsdp2");
    if (r.flag("--torch-fsdp2-no-reshard-after-forward")) {
      r.set("strategy.reshard", false, "--torch-fsdp2-no-reshard-after-forward");
    }
  } else if (fsdp) {
    const std::string word = kind.value_or("no_shard");
    r.set("strategy.zero",
          word == "no_shard"      ? 0
          : word == "optim"       ? 1
          : word == "optim_grads" ? 2
                                  : 3,
          "--data-parallel-sharding-strategy");
  } else {
    r.set("strategy.zero", distributed ? 1 : 0, "--use-distributed-optimizer");
  }
  const std::int64_t zero = r.integer_at("strategy.zero", 0);
  if (r.flag("--overlap-param-gather") && (zero == 1 || zero == 2)) {
    r.set("strategy.overlap_param_gather", true, "--overlap-param-gather");
  }
  if (const auto elements = r.integer("--ddp-bucket-size", 1)) {
    constexpr std::int64_t kMost = 1'000'000'000'000;
    if (*elements <= kMost) {
      // Gradients are summed in fp32 (--accumulate-allreduce-grads-in-fp32, which --bf16 implies).
      r.set("strategy.bucket_bytes", fmt::format("{} B", *elements * 4), "--ddp-bucket-size");
    } else {
      r.mistake("--ddp-bucket-size", fmt::format("expected at most {} parameters", kMost));
    }
  }
  if (r.flag("--grad-reduce-in-bf16")) {
    if (zero == 0) {
      r.set("strategy.compression", "bf16", "--grad-reduce-in-bf16");
    } else {
      r.warn("--grad-reduce-in-bf16", "is not built with a distributed optimizer: forecast in fp32");
    }
  }
}

void read_recompute(SettingReader& r) {
  const bool activations = r.flag("--recompute-activations");
  const auto granularity = r.word("--recompute-granularity", {"full", "selective"});
  const auto method = r.word("--recompute-method", {"uniform", "block"});
  const auto layers = r.integer("--recompute-num-layers", 1);
  const Setting* modules = r.find("--recompute-modules");
  if (granularity.value_or("") == "full") {
    r.set("strategy.recompute", "full", "--recompute-granularity");
    if (method.value_or("uniform") == "block" && layers) {
      r.set("strategy.recompute_layers", *layers, "--recompute-num-layers");
    } else if (layers.value_or(1) > 1) {
      r.warn("--recompute-num-layers", "uniform in groups of layers is not built: forecast layer by layer");
    }
    return;
  }
  if (!granularity && !activations) {
    return;
  }
  const char* by = granularity ? "--recompute-granularity" : "--recompute-activations";
  if (modules == nullptr || modules->values.empty()) {
    r.set("strategy.recompute", "selective", by);
    return;
  }
  json list = json::array();
  for (const std::string& word : modules->values) {
    const auto found = std::find_if(kMegatronModules.begin(), kMegatronModules.end(),
                                    [&](const MegatronModule& m) { return m.megatron == word; });
    if (found == kMegatronModules.end()) {
      r.warn("--recompute-modules", fmt::format("\"{}\" is not built: forecast as if it were kept", word));
    } else {
      list.push_back(found->job);
    }
  }
  r.set("strategy.recompute", std::move(list), "--recompute-modules");
}

// Layers of each virtual stage, where Megatron-LM does not cut evenly.
void read_partition(SettingReader& r, std::int64_t pp, std::int64_t chunks) {
  const std::int64_t layers = r.integer_at("workload.model.layers", 0), stages = pp * chunks;
  const auto first = r.integer("--decoder-first-pipeline-num-layers", 0),
             last = r.integer("--decoder-last-pipeline-num-layers", 0);
  const bool embedding = r.flag("--account-for-embedding-in-pipeline-split"),
             loss = r.flag("--account-for-loss-in-pipeline-split");
  constexpr std::int64_t kMostStages = 100'000;
  if (stages < 2 || stages > kMostStages || (!first && !last && !embedding && !loss)) {
    return;
  }
  const auto split = megatron_split(layers, pp, chunks, first, last, embedding, loss);
  const char* by = first       ? "--decoder-first-pipeline-num-layers"
                   : last      ? "--decoder-last-pipeline-num-layers"
                   : embedding ? "--account-for-embedding-in-pipeline-split"
                               : "--account-for-loss-in-pipeline-split";
  if (split) {
    r.set("strategy.layers_per_stage", *split, by);
  } else {
    r.mistake(by, fmt::format("{} layers do not divide over {} stages so", layers, stages));
  }
}

void read_pipeline(SettingReader& r) {
  const std::int64_t pp = r.integer_at("strategy.pp", 1), layers = r.integer_at("workload.model.layers", 0);
  std::int64_t chunks = r.integer("--num-virtual-stages-per-pipeline-rank", 1).value_or(1);
  if (const auto per_chunk = r.integer("--num-layers-per-virtual-pipeline-stage", 1)) {
    if (pp > 1'000'000 || *per_chunk > layers || layers % pp != 0 || (layers / pp) % *per_chunk != 0) {
      r.mistake("--num-layers-per-virtual-pipeline-stage",
                fmt::format("{} does not divide the {} layers of each of {} stages", *per_chunk, layers, pp));
    } else {
      chunks = layers / pp / *per_chunk;
    }
  }
  if (const auto layout = r.text("--pipeline-model-parallel-layout")) {
    const auto split = layout_layers(*layout);
    if (!split || std::ssize(*split) % pp != 0) {
      r.mistake("--pipeline-model-parallel-layout",
                fmt::format("\"{}\" is not understood; expected stages of E, t and L between |, in multiples of the {} "
                            "pipeline ranks",
                            *layout, pp));
    } else {
      chunks = std::ssize(*split) / pp;
      r.set("strategy.layers_per_stage", *split, "--pipeline-model-parallel-layout");
    }
  }
  if (chunks > 1 && pp > 1) {
    r.set("strategy.virtual_stages", chunks,
          r.has("--num-layers-per-virtual-pipeline-stage") ? "--num-layers-per-virtual-pipeline-stage"
          : r.has("--pipeline-model-parallel-layout")      ? "--pipeline-model-parallel-layout"
                                                           : "--num-virtual-stages-per-pipeline-rank");
  }
  read_partition(r, pp, chunks);
}

void read_parallel(SettingReader& r) {
  if (const auto tp = r.integer("--expert-tensor-parallel-size", 1)) {
    r.set("strategy.expert_tp", *tp, "--expert-tensor-parallel-size");
  }
  if (const auto kind = r.word("--cp-comm-type", {"p2p", "a2a", "allgather", "a2a+p2p"})) {
    if (*kind == "a2a+p2p") {
      r.warn("--cp-comm-type", "a2a+p2p is not built: forecast as p2p");
    }
    r.set("strategy.cp_kind",
          *kind == "a2a"         ? "all_to_all"
          : *kind == "allgather" ? "all_gather"
                                 : "ring",
          "--cp-comm-type");
  }
  read_pipeline(r);
  read_sharding(r);
  read_recompute(r);
  if (r.flag("--use-tp-pp-dp-mapping")) {
    r.set("strategy.rank_order", "dp,pp,cp,tp", "--use-tp-pp-dp-mapping");
  }
  json offload = json::array();
  if (r.flag("--optimizer-cpu-offload")) {
    offload.push_back("optimizer");
  }
  if (const auto layers = r.integer("--cpu-offloading-num-layers", 1)) {
    offload.push_back("activations");
    r.set("strategy.offload_layers", *layers, "--cpu-offloading-num-layers");
  }
  if (!offload.empty()) {
    r.set("strategy.offload", offload,
          r.has("--optimizer-cpu-offload") ? "--optimizer-cpu-offload" : "--cpu-offloading-num-layers");
  }
}

const std::vector<std::string> kWithoutEffect{"--use-mcore-models",
                                              "--use-legacy-models",
                                              "--transformer-impl",
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
                                              "--global-batch-size",
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
const std::vector<std::string> kTelling{"parallel",   "pipeline", "recompute",   "overlap",   "expert",
                                        "moe-",       "shard",    "fsdp",        "zero",      "offload",
                                        "fp8",        "fp4",      "precision",   "micro",     "batch",
                                        "layer",      "hidden",   "head",        "attention", "attn",
                                        "mtp",        "mla",      "lora",        "mamba",     "hybrid",
                                        "linear",     "rampup",   "grad-reduce", "bucket",    "checkpoint-act",
                                        "cuda-graph", "gtp",      "dtype",       "dualpipe",  "comm",
                                        "sliding",    "spec"};

}  // namespace

ImportedJob import_megatron(const std::string& text, const std::string& origin, const ImportOptions& options) {
  LaunchWords launch = launch_words(text, origin, options.variables);
  SettingReader r(launch.is_script ? "launch script of Megatron-LM" : "Megatron-LM arguments", origin,
                  std::move(launch.settings), overridden_fields(options.overrides));
  r.set_quietly("workload.model.architecture", "decoder");
  r.set_quietly("workload.model.name", "megatron");
  read_integers(r, kMegatronIntegers);
  for (const MegatronFlag& w : kMegatronFlags) {
    if (r.flag(w.flag)) {
      r.set(w.path, w.present, w.flag);
    } else {
      r.set_quietly(w.path, !w.present);
    }
  }
  read_model(r);
  read_precision(r);
  read_attention(r);
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
  read_parallel(r);
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
