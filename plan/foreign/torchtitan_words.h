// torchtitan's words that say one field of a job, for both directions. Names and defaults: torchtitan/config/
// job_config.py of github:pytorch/torchtitan before 9810191bbb (the last with TOML files).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "workloads/model.h"

namespace foretrain::plan {

struct TorchtitanInteger {
  std::string_view name, path;
  std::int64_t fallback;
};
inline constexpr std::array kTorchtitanIntegers{
    TorchtitanInteger{"training.seq_len", "workload.seq_len", 2048},
    TorchtitanInteger{"parallelism.tensor_parallel_degree", "strategy.tp", 1},
    TorchtitanInteger{"parallelism.pipeline_parallel_degree", "strategy.pp", 1},
    TorchtitanInteger{"parallelism.context_parallel_degree", "strategy.cp", 1},
    TorchtitanInteger{"parallelism.expert_parallel_degree", "strategy.ep", 1},
};

// A flavor of model.name, and the catalogue's model of that shape.
struct TorchtitanModel {
  std::string_view name, flavor, model;
};
inline constexpr std::array kTorchtitanModels{
    TorchtitanModel{"llama3", "8B", "llama3-8b"},
    TorchtitanModel{"llama3", "70B", "llama3-70b"},
    TorchtitanModel{"llama3", "405B", "llama3.1-405b"},
    TorchtitanModel{"llama4", "17bx16e", "llama4-scout"},
    TorchtitanModel{"llama4", "17bx128e", "llama4-maverick"},
    TorchtitanModel{"deepseek_v3", "16B", "deepseek-v2-lite"},
    TorchtitanModel{"deepseek_v3", "236B", "deepseek-v2"},
    TorchtitanModel{"deepseek_v3", "671B", "deepseek-v3"},
    TorchtitanModel{"qwen3", "0.6B", "qwen3-0.6b"},
    TorchtitanModel{"qwen3", "1.7B", "qwen3-1.7b"},
    TorchtitanModel{"qwen3", "4B", "qwen3-4b"},
    TorchtitanModel{"qwen3", "8B", "qwen3-8b"},
    TorchtitanModel{"qwen3", "14B", "qwen3-14b"},
    TorchtitanModel{"qwen3", "32B", "qwen3-32b"},
    TorchtitanModel{"qwen3", "30B-A3B", "qwen3-30b-a3b"},
    TorchtitanModel{"qwen3", "235B-A22B", "qwen3-235b-a22b"},
    TorchtitanModel{"gpt_oss", "20b", "gpt-oss-20b"},
    TorchtitanModel{"gpt_oss", "120b", "gpt-oss-120b"},
};

struct TorchtitanSchedule {
  std::string_view name, job;
  std::int64_t chunks;  // virtual stages of a rank where pipeline_parallel_layers_per_stage does not say
};
inline constexpr std::array kTorchtitanSchedules{
    TorchtitanSchedule{"1F1B", "1f1b", 1},
    TorchtitanSchedule{"GPipe", "gpipe", 1},
    TorchtitanSchedule{"Interleaved1F1B", "interleaved", 2},
    TorchtitanSchedule{"ZBVZeroBubble", "zb_v", 2},
    TorchtitanSchedule{"DualPipeV", "dualpipe_v", 2},
};

// What torchtitan's data parallelism is in a job's words: FSDP where data_parallel_shard_degree x
// context_parallel_degree is more than one rank, else DDP (torchtitan/distributed/parallel_dims.py). `policy`:
// fsdp_reshard_after_forward.
struct TorchtitanSharding {
  int zero = 0;
  bool reshard = false, overlap_grad_reduce = false, overlap_param_gather = false;
};
TorchtitanSharding torchtitan_sharding(std::int64_t replicate, std::int64_t shard, std::int64_t cp, std::int64_t pp,
                                       std::string_view policy);

// Layers of each stage as torchtitan cuts them (torchtitan/distributed/pipeline_parallel.py,
// generate_llm_fqn_per_model_part): embedding and head count as so many layers, and the first stages get what is left
// over. Empty where torchtitan refuses to: stages without anything, embedding or head of more than a stage's layers.
std::vector<std::int64_t> torchtitan_split(std::int64_t layers, std::int64_t stages, std::int64_t embedding,
                                           std::int64_t head);

}  // namespace foretrain::plan
