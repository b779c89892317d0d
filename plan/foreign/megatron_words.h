// Megatron-LM's arguments that say one field of a job, for both directions. Names and defaults: megatron/training/
// arguments.py and megatron/core/transformer/transformer_config.py of github:NVIDIA/Megatron-LM@d98e8a64dd.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace foretrain::plan {

struct MegatronInteger {
  std::string_view flag, path;
  std::int64_t low;
  std::int64_t fallback;  // what Megatron takes where the flag is absent; -1: something else than a number
};
inline constexpr std::array kMegatronIntegers{
    MegatronInteger{"--num-layers", "workload.model.layers", 1, -1},
    MegatronInteger{"--hidden-size", "workload.model.hidden", 1, -1},
    MegatronInteger{"--num-attention-heads", "workload.model.heads", 1, -1},
    MegatronInteger{"--seq-length", "workload.seq_len", 1, -1},
    MegatronInteger{"--micro-batch-size", "strategy.micro_batch", 1, -1},
    MegatronInteger{"--tensor-model-parallel-size", "strategy.tp", 1, 1},
    MegatronInteger{"--pipeline-model-parallel-size", "strategy.pp", 1, 1},
    MegatronInteger{"--context-parallel-size", "strategy.cp", 1, 1},
    MegatronInteger{"--expert-model-parallel-size", "strategy.ep", 1, 1},
};

// A flag whose presence says `present`, true or false, and its absence the opposite.
struct MegatronFlag {
  std::string_view flag, path;
  bool present;
};
inline constexpr std::array kMegatronFlags{
    MegatronFlag{"--untie-embeddings-and-output-weights", "workload.model.tied_embeddings", false},
    MegatronFlag{"--qk-layernorm", "workload.model.qk_norm", true},
    MegatronFlag{"--sequence-parallel", "strategy.sequence_parallel", true},
    MegatronFlag{"--overlap-grad-reduce", "strategy.overlap_grad_reduce", true},
    MegatronFlag{"--overlap-moe-expert-parallel-comm", "strategy.overlap_ep", true},
    MegatronFlag{"--no-gradient-accumulation-fusion", "strategy.fused_grad_accumulation", false},
    MegatronFlag{"--no-async-tensor-model-parallel-allreduce", "strategy.overlap_tp", false},
};

struct MegatronNumber {
  std::string_view flag, path;
  double fallback;
};
inline constexpr std::array kMegatronAdam{
    MegatronNumber{"--weight-decay", "workload.optimizer.weight_decay", 0.01},
    MegatronNumber{"--clip-grad", "workload.optimizer.clip", 1.0},
    MegatronNumber{"--adam-beta1", "workload.optimizer.beta1", 0.9},
    MegatronNumber{"--adam-beta2", "workload.optimizer.beta2", 0.999},
    MegatronNumber{"--adam-eps", "workload.optimizer.eps", 1e-8},
};

// Integers of a mixture of experts; `fallback` as above.
inline constexpr std::array kMegatronExperts{
    MegatronInteger{"--num-experts", "workload.model.moe.experts", 1, -1},
    MegatronInteger{"--moe-router-topk", "workload.model.moe.top_k", 1, 2},
    MegatronInteger{"--moe-router-num-groups", "workload.model.moe.groups", 1, 1},
};

// Of latent attention.
inline constexpr std::array kMegatronLatent{
    MegatronInteger{"--q-lora-rank", "workload.model.mla.q_rank", 1, -1},
    MegatronInteger{"--kv-lora-rank", "workload.model.mla.kv_rank", 1, 512},
    MegatronInteger{"--qk-head-dim", "workload.model.mla.nope_dim", 1, 128},
    MegatronInteger{"--qk-pos-emb-head-dim", "workload.model.mla.rope_dim", 1, 64},
    MegatronInteger{"--v-head-dim", "workload.model.mla.v_dim", 1, 128},
};

inline constexpr std::int64_t kMegatronVocabUnit = 128;  // --make-vocab-size-divisible-by, times tp

struct MegatronModule {
  std::string_view megatron, job;
};
inline constexpr std::array kMegatronModules{
    MegatronModule{"core_attn", "attention_core"}, MegatronModule{"layernorm", "norm"},
    MegatronModule{"moe_act", "activation"},       MegatronModule{"mlp", "mlp"},
    MegatronModule{"mla_up_proj", "mla_up"},
};

}  // namespace foretrain::plan
