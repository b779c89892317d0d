// Megatron-LM's words of a model.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "plan/foreign/megatron_readers.h"
#include "plan/foreign/megatron_words.h"

namespace foretrain::plan {

namespace {

constexpr std::int64_t kGpt2Vocab = 50257, kLlama3Vocab = 128256;

// Norms of the latents are --qk-layernorm's there, and no word of a job: it always has them.
void read_latent(SettingReader& r) {
  if (!r.flag("--multi-latent-attention")) {
    return;
  }
  read_megatron_integers(r, kMegatronLatent);
  r.set_quietly("workload.model.qk_norm", false);
  if (!r.flag("--qk-layernorm")) {
    r.warn("--multi-latent-attention", "without --qk-layernorm latents are not normed: forecast with their norms");
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
    r.set_quietly("workload.model.ffn_hidden", swiglu ? hidden * 8 / 3 / 64 * 64 : 4 * hidden);
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

// NullTokenizer of releases until early 2026 counts an end of documents beside --vocab-size, later ones do not: where
// the table is full with it, it is meant, which makes the table the same in both (export_megatron.cpp writes that).
void read_vocabulary(SettingReader& r) {
  const std::string tokenizer = r.text("--tokenizer-type").value_or("");
  const std::int64_t unit = r.integer("--make-vocab-size-divisible-by", 1).value_or(kMegatronVocabUnit);
  const std::int64_t tp = r.integer_at("strategy.tp", 1);
  const std::int64_t step = unit < 1'000'000'000 && tp < 1'000'000 ? unit * tp : 1;
  if (const auto vocab = r.integer("--vocab-size", 1)) {
    const bool counts_end = tokenizer == "NullTokenizer" && *vocab < INT64_MAX && (*vocab + 1) % step == 0;
    r.set("workload.model.vocab", *vocab + (counts_end ? 1 : 0), "--vocab-size");
  } else if (tokenizer == "GPT2BPETokenizer") {
    r.assume("workload.model.vocab", kGpt2Vocab, "GPT-2's, as --tokenizer-type GPT2BPETokenizer says");
  } else if (tokenizer == "Llama2Tokenizer") {
    r.assume("workload.model.vocab", 32000, "Llama 2's, as --tokenizer-type Llama2Tokenizer says");
  } else if (r.assume("workload.model.vocab", kLlama3Vocab,
                      "Llama 3's: the tokenizer's file says it, and it is not here; give it with vocab=N")) {
    r.warn_of_file(
        fmt::format("how large is the vocabulary? Neither --vocab-size nor --tokenizer-type {} says it, and {} "
                    "is a guess; give it with vocab=N",
                    tokenizer.empty() ? "(absent)" : tokenizer, kLlama3Vocab));
  }
  const std::int64_t vocab = r.integer_at("workload.model.vocab", 0);
  if (unit != kMegatronVocabUnit && vocab > 0 && vocab < INT64_MAX - step) {
    r.set("strategy.padded_vocab", (vocab + step - 1) / step * step, "--make-vocab-size-divisible-by");
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
  read_megatron_integers(r, kMegatronExperts);
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
  const bool latent = r.has("--multi-latent-attention");
  if (const auto channels = r.integer("--kv-channels", 1); channels && !latent) {
    r.set("workload.model.head_dim", *channels, "--kv-channels");
  } else if (!latent) {
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
  const bool local = r.word("--transformer-impl", {"transformer_engine", "local", "inference_optimized"})
                         .value_or("transformer_engine") == "local";
  if (backend == "unfused" || backend == "local" || (local && backend == "auto" && !flash)) {
    r.set("workload.attention", masked_fusion ? "fused_softmax" : "unfused",
          backend == "auto" ? "--transformer-impl" : "--attention-backend");
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

}  // namespace

void read_megatron_model(SettingReader& r) {
  read_model(r);
  read_precision(r);
  read_attention(r);
}

}  // namespace foretrain::plan
