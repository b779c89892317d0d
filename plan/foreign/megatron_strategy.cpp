// Megatron-LM's words of a strategy.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "plan/foreign/megatron_layout.h"
#include "plan/foreign/megatron_readers.h"
#include "plan/foreign/megatron_words.h"

namespace foretrain::plan {

namespace {

using nlohmann::json;

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

void read_whole_layers(SettingReader& r, const char* by, const char* method, const char* number) {
  const std::string how = r.word(method, {"uniform", "block"}).value_or("uniform");
  const auto layers = r.integer(number, 0);
  r.set("strategy.recompute", "full", by);
  if (how == "block" && layers) {
    r.set("strategy.recompute_layers", *layers, number);
  } else if (layers.value_or(1) > 1) {
    r.warn(number, "uniform in groups of layers is not built: forecast layer by layer");
  }
}

// Words of Megatron-LM before 3.0, and of its forks.
bool read_older_recompute(SettingReader& r) {
  if (r.has("--activations-checkpoint-method")) {
    read_whole_layers(r, "--activations-checkpoint-method", "--activations-checkpoint-method",
                      "--activations-checkpoint-num-layers");
    return true;
  }
  if (r.flag("--checkpoint-activations")) {
    read_whole_layers(r, "--checkpoint-activations", "--activations-checkpoint-method", "--checkpoint-num-layers");
    r.ignore({"--deepspeed-activation-checkpointing"});
    return true;
  }
  return false;
}

void read_recompute(SettingReader& r) {
  const bool activations = r.flag("--recompute-activations");
  const auto granularity = r.word("--recompute-granularity", {"full", "selective"});
  const Setting* modules = r.find("--recompute-modules");
  const bool old = read_older_recompute(r);
  if (granularity.value_or("") == "full") {
    read_whole_layers(r, "--recompute-granularity", "--recompute-method", "--recompute-num-layers");
    return;
  }
  r.ignore({"--recompute-method", "--recompute-num-layers"});
  if (old) {
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

}  // namespace

void read_megatron_strategy(SettingReader& r) {
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

}  // namespace foretrain::plan
