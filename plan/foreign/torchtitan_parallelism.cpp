// torchtitan's words of pipelines and data parallelism, and what it makes of them.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "plan/foreign/finish_import.h"
#include "plan/foreign/torchtitan_readers.h"
#include "plan/foreign/torchtitan_words.h"

namespace foretrain::plan {

namespace {

// Layers of each part of a model by its modules: "|", "tok_embeddings", "layers.0", …; nothing where they are not all
// `layers`, in order.
std::optional<std::vector<std::int64_t>> layers_of_parts(const std::vector<std::string>& modules, std::int64_t layers) {
  constexpr std::string_view kLayer = "layers.";
  std::vector<std::int64_t> parts;
  std::int64_t next = 0;
  for (const std::string& module : modules) {
    if (module == "|") {
      parts.push_back(0);
    } else if (module.starts_with(kLayer)) {
      if (parts.empty() || module.substr(kLayer.size()) != std::to_string(next)) {
        return std::nullopt;
      }
      ++next;
      ++parts.back();
    }
  }
  return next == layers ? std::optional(parts) : std::nullopt;
}

constexpr std::int64_t kMost = 1'000'000;  // that products of degrees count in 64 bits
constexpr const char* kPerStage = "parallelism.pipeline_parallel_layers_per_stage";
constexpr const char* kParts = "parallelism.module_fqns_per_model_part";

// Layers of each stage, where torchtitan cuts the model into `chunks` stages of a rank, or into as many as it says.
std::vector<std::int64_t> read_stages(SettingReader& r, std::int64_t layers, std::int64_t pp, std::int64_t chunks) {
  const std::int64_t first =
      std::min(kMost, r.integer("parallelism.pipeline_parallel_first_stage_less_layers", 0).value_or(1));
  const std::int64_t last =
      std::min(kMost, r.integer("parallelism.pipeline_parallel_last_stage_less_layers", 0).value_or(1));
  const auto per_stage = r.integer(kPerStage, 1);
  const Setting* modules = r.find(kParts);
  constexpr std::int64_t kMostStages = 100'000;
  if (layers == 0 || pp > kMostStages || chunks > kMostStages || r.is_given("strategy.layers_per_stage")) {
    return {};
  }
  const bool counted = !r.is_given("strategy.virtual_stages");
  if (modules != nullptr && counted) {
    const auto parts = layers_of_parts(modules->values, layers);
    if (!parts || std::ssize(*parts) % pp != 0) {
      r.mistake(kParts, fmt::format("expected lists of modules, among them layers.0 to layers.{} in order, of a "
                                    "multiple of the {} pipeline ranks",
                                    layers - 1, pp));
    }
    return parts.value_or(std::vector<std::int64_t>{});
  }
  std::int64_t stages = pp * chunks;
  if (per_stage && counted) {
    stages = (layers + std::min(first + last, layers) + *per_stage - 1) / *per_stage;
    if (stages % pp != 0) {
      r.mistake(kPerStage,
                fmt::format("{} makes {} stages, no multiple of the {} pipeline ranks", *per_stage, stages, pp));
      return {};
    }
  }
  std::vector<std::int64_t> split;
  if (stages <= kMostStages) {
    split = torchtitan_split(layers, stages, first, last);
  }
  if (split.empty()) {
    r.mistake("parallelism.pipeline_parallel_degree",
              fmt::format("{} layers are too few for {} stages", layers, stages));
  }
  return split;
}

}  // namespace

std::int64_t read_torchtitan_pipeline(SettingReader& r, std::int64_t layers) {
  const std::int64_t pp = r.integer_at("strategy.pp", 1);
  std::vector<std::string> known;
  for (const TorchtitanSchedule& s : kTorchtitanSchedules) {
    known.emplace_back(s.name);
  }
  const std::string word = r.word("parallelism.pipeline_parallel_schedule", known).value_or("1F1B");
  const auto micro = r.integer("parallelism.pipeline_parallel_microbatch_size", 1);
  if (pp == 1) {
    for (const char* name : {"parallelism.pipeline_parallel_first_stage_less_layers",
                             "parallelism.pipeline_parallel_last_stage_less_layers", kPerStage, kParts}) {
      r.find(name);  // without a pipeline they say nothing
    }
    return 1;
  }
  r.set("strategy.micro_batch", micro.value_or(1), "parallelism.pipeline_parallel_microbatch_size");
  const auto named = std::find_if(kTorchtitanSchedules.begin(), kTorchtitanSchedules.end(),
                                  [&](const TorchtitanSchedule& s) { return s.name == word; });
  r.set("strategy.schedule", named->job, "parallelism.pipeline_parallel_schedule");
  const auto schedule = std::find_if(kTorchtitanSchedules.begin(), kTorchtitanSchedules.end(),
                                     [&](const auto& s) { return r.value("strategy.schedule") == s.job; });
  const std::int64_t usual = schedule == kTorchtitanSchedules.end() ? 1 : schedule->chunks;
  std::int64_t chunks = std::clamp<std::int64_t>(r.integer_at("strategy.virtual_stages", usual), 1, kMost);
  if (const std::vector<std::int64_t> split = read_stages(r, layers, pp, chunks); !split.empty()) {
    chunks = std::max<std::int64_t>(1, std::ssize(split) / pp);
    r.set("strategy.layers_per_stage", split, r.has(kParts) ? kParts : "parallelism.pipeline_parallel_degree");
  }
  if ((chunks > 1) != (usual > 1) && !r.is_given("strategy.virtual_stages")) {
    r.mistake("parallelism.pipeline_parallel_schedule",
              fmt::format("\"{}\" has {} of a rank, not {}", word, usual > 1 ? "several stages" : "one stage", chunks));
  }
  r.set_quietly("strategy.virtual_stages", chunks);
  return chunks;
}

void read_torchtitan_data_parallel(SettingReader& r) {
  const std::int64_t replicate =
      std::min(kMost, r.integer("parallelism.data_parallel_replicate_degree", 1).value_or(1));
  std::int64_t shard = std::min(kMost, r.integer("parallelism.data_parallel_shard_degree", -1).value_or(-1));
  if (shard > 0) {
    r.set("strategy.dp", replicate * shard, "parallelism.data_parallel_shard_degree");
  } else {
    if (shard == 0) {
      r.mistake("parallelism.data_parallel_shard_degree", "0 is not allowed; expected -1 (what is left) or >= 1");
    }
    shard = std::max<std::int64_t>(1, data_parallel_size(r) / replicate);
  }
  const std::string policy =
      r.word("parallelism.fsdp_reshard_after_forward", {"default", "always", "never"}).value_or("default");
  const TorchtitanSharding s =
      torchtitan_sharding(replicate, shard, r.integer_at("strategy.cp", 1), r.integer_at("strategy.pp", 1), policy);
  if (s.zero == 1) {
    r.assume("strategy.zero", 1,
             "FSDP in a pipeline keeps parameters and gradients whole until a stage's last backward");
  } else if (s.zero == 3) {
    r.set("strategy.zero", 3, "parallelism.data_parallel_shard_degree");
  }
  r.set_quietly("strategy.overlap_grad_reduce", s.overlap_grad_reduce);
  const std::int64_t zero = r.integer_at("strategy.zero", 0);  // of which the other words depend
  if (zero == 3) {
    r.set_quietly("strategy.reshard", s.reshard);
  } else if (zero > 0) {
    r.set_quietly("strategy.overlap_param_gather", s.overlap_param_gather);
  }
  if (zero == 0 || replicate == 1) {
    return;
  }
  if (shard > 1) {
    r.set("strategy.shard", shard, "parallelism.data_parallel_replicate_degree");
  } else {
    r.warn("parallelism.data_parallel_replicate_degree",
           "FSDP over the ranks along cp alone is not built: forecast as over those along dp, too");
  }
}

std::vector<std::int64_t> torchtitan_split(std::int64_t layers, std::int64_t stages, std::int64_t embedding,
                                           std::int64_t head) {
  const std::int64_t items = layers + embedding + head;
  if (items / stages < std::max({std::int64_t{1}, embedding, head})) {
    return {};
  }
  std::vector<std::int64_t> split(static_cast<std::size_t>(stages), items / stages);
  for (std::int64_t i = 0; i < items % stages; ++i) {
    ++split[static_cast<std::size_t>(i)];
  }
  split.front() -= embedding;
  split.back() -= head;
  return split;
}

TorchtitanSharding torchtitan_sharding(std::int64_t replicate, std::int64_t shard, std::int64_t cp, std::int64_t pp,
                                       std::string_view policy) {
  if (shard == 1 && cp == 1) {
    return {0, false, replicate > 1, false};
  }
  if (pp > 1 && policy != "always") {
    return {1, false, true, true};
  }
  return {3, policy != "never", true, false};
}

}  // namespace foretrain::plan
