// The user's decision: how the job is spread over ranks. The "strategy" part of a job file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "plan/data_parallel.h"
#include "plan/exchange_ops.h"

namespace foretrain::plan {

enum class ScheduleKind : std::uint8_t {
  gpipe,
  one_f_one_b,
  interleaved,
  zb_h1,
  zb_h2,
  zb_v,
  dualpipe_v,
  dualpipe,
  text
};
std::string_view name(
    ScheduleKind k);  // "gpipe", "1f1b", "interleaved", "zb_h1", "zb_h2", "zb_v", "dualpipe_v", "dualpipe", "text"
// What the backward computes again instead of keeping it. selective: attention's probabilities, where a kernel keeps
// them; listed: the modules of Strategy::recompute_modules; full: whole layers.
enum class Recompute : std::uint8_t { none, selective, full, listed };
std::string_view name(Recompute r);
// Parts of a layer, as Megatron-core's --recompute-modules has them: attention_core (core_attn) runs again with every
// kernel; norm (layernorm) both norms; activation (moe_act) the MLP's activation; mlp all of the MLP behind its norm;
// mla_up (mla_up_proj) what leads from latent attention's latents to q, k and v.
enum class RecomputeModule : std::uint8_t { attention_core, norm, activation, mlp, mla_up };
std::string_view name(RecomputeModule m);

// How optimizer state is shared out. shards: equal parts of every bucket, reduce-scattered and gathered (Megatron,
// DeepSpeed, PyTorch). owners: every rank updates its part of all parameters and broadcasts it, after an all-reduce of
// all gradients (InternEvo).
enum class ZeroKind : std::uint8_t { shards, owners };
std::string_view name(ZeroKind k);

// How attention sees the keys of other shares.
enum class CpKind : std::uint8_t { ring, all_to_all, all_gather };
std::string_view name(CpKind k);

// What gradients are exchanged as along dp: rounded to 16 bits and summed in them; or coded (base/code.h), gathered
// from all and summed, with error feedback.
enum class CompressionKind : std::uint8_t { none, fp16, bf16, int8, top_k };
struct Compression {
  CompressionKind kind = CompressionKind::none;
  double share = 1;  // top_k: of a layer's gradients, those of the largest magnitude
  bool is_coded() const { return kind == CompressionKind::int8 || kind == CompressionKind::top_k; }
};
std::string name(const Compression& c);  // "none", …, "topk:0.01"

struct Strategy {
  std::int64_t dp = 1, tp = 1, pp = 1, cp = 1, ep = 1;
  std::int64_t expert_tp = 1;       // ranks that share each expert's matrices: 1, or tp
  std::int64_t micro_batch = 1;     // sequences per rank and microbatch
  std::int64_t virtual_stages = 1;  // model chunks per pipeline rank; zb_v, dualpipe_v, dualpipe: 2
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  std::string schedule_path;  // for ScheduleKind::text
  // What data-parallel ranks share out among them: 1 optimizer state; 2 gradients too, reduced after every microbatch;
  // 3 parameters too, gathered unit by unit (a layer, the embedding, the head), as PyTorch's FSDP2 does.
  int zero = 0;
  ZeroKind zero_kind = ZeroKind::shards;
  std::int64_t shard = 0;     // over how many neighbours along dp, each group of them being a replica; 0: over all
  bool reshard = true;        // zero 3: parameters are dropped after the forward and gathered again for the backward
  std::int64_t prefetch = 1;  // zero 3: how many units ahead parameters are gathered
  bool sequence_parallel = false;
  Recompute recompute = Recompute::none;
  // recompute full: by virtual stage, how many layers do, the first ones (Megatron's --recompute-method block); the
  // others keep everything. Empty: all.
  std::vector<std::int64_t> recompute_layers;
  CpKind cp_kind = CpKind::ring;
  std::vector<RecomputeModule> recompute_modules;  // of Recompute::listed; else empty
  bool recompute_early_stop = false;               // Recompute::full ends with the last tensor that the backward reads
  bool overlap_grad_reduce = false;                // reduction behind the backward (zero 0 and 1: the step's last)
  bool overlap_param_gather = false;               // ZeRO-1: parameter all-gather behind the optimizer of later buckets
  bool overlap_tp = true;                          // the backward's tp communication beside matmuls that do not need it
  bool overlap_ep = false;                         // tokens' exchanges of a microbatch beside another's compute
  bool scatter_gather = false;                     // pipeline messages in tp parts, gathered by the receivers
  bool post_validation = false;                    // the optimizer waits for no norm of later stages' gradients
  bool offload_optimizer = false;                  // state and update on the host (ZeRO-Offload)
  bool offload_activations = false;                // what a layer keeps for its backward waits on the host
  std::int64_t offload_layers = -1;                // of a virtual stage's layers, the first ones; -1: all
  bool fused_grad_accumulation = true;             // weight gradients are added up inside their matmul
  bool fused_activation = false;                   // gelu and its backward inside the MLP's matmuls
  std::int64_t loss_chunks = 1;                    // parts of a microbatch's rows whose logits exist one at a time
  std::int64_t bucket_bytes = 0;  // zero 0 and 1: gradient bucket target; 0 = 40 million elements, as Megatron
  std::vector<std::int64_t> layers_per_stage;  // by virtual stage; empty = even
  std::string rank_order = "pp,dp,cp,tp";      // slowest first
  std::int64_t padded_vocab = 0;               // 0 = next multiple of 128 x tp
  Compression compression;
  DataParallel data_parallel = DataParallel::all_reduce;
  std::int64_t servers = 0;  // parameter_server: ranks behind the dp workers
  ServerSharding server_sharding = ServerSharding::size;
  std::int64_t server_replicas = 0;  // of each server, 0 or 1: ranks behind the servers that hold the same
  std::int64_t loader_ranks = 0;     // ranks beside the dp workers that read what these train on
  // parameter_server: an update per worker instead of one of their sum, by whoever comes first; a worker goes on where
  // it is at most so many steps ahead of the slowest, or kUnbounded. Nothing: synchronous.
  std::optional<std::int64_t> staleness;
  bool servers_choose = false;     // asynchronous: workers take turns, in a random order of each step
  bool elastic = false;            // asynchronous: a run goes on without workers that it loses
  std::int64_t average_every = 1;  // local_sgd: steps
  std::int64_t local_group = 1;    // local_sgd: neighbours along dp that sum gradients in every step
  OuterOptimizer outer;            // local_sgd
  bool split_by_speed = false;     // slower devices get less of the batch, and fewer layers
  // Of each coordinate along dp, where split_by_speed has them differ.
  std::vector<std::int64_t> microbatches_of;

  // Whether a list names the module; `full` names none.
  bool recomputes(RecomputeModule m) const;
  bool offloads() const { return offload_optimizer || offload_activations; }
  // Gradients are gathered, and then summed, instead of reduced.
  bool gathers_gradients() const {
    return data_parallel != DataParallel::all_reduce && data_parallel != DataParallel::local_sgd;
  }
  // Replicas of the model that drift apart between two averages: 1 where all of them sum gradients.
  std::int64_t drifting() const { return data_parallel == DataParallel::local_sgd ? dp / local_group : 1; }
  std::int64_t serving() const { return servers * (1 + server_replicas); }
  std::int64_t beside() const { return serving() + loader_ranks; }  // ranks beside the dp workers
  std::int64_t workers() const { return dp * tp * pp * cp; }
  std::int64_t ranks() const { return workers() + beside(); }
  // Ways that microbatches take through the virtual stages: of dualpipe two, each through all of the model.
  std::int64_t ways() const { return schedule == ScheduleKind::dualpipe ? 2 : 1; }
  std::int64_t replicas() const { return dp * cp * ways(); }  // ranks with the same parameters and other tokens
  std::int64_t stages() const { return pp * virtual_stages; }
  std::int64_t model_stages() const { return stages() / ways(); }  // into which the layers are cut
  // ep as ranks along tp, where each of them has experts of its own, times ranks along dp.
  std::int64_t ep_along_tp() const { return expert_tp == tp ? 1 : std::min(ep, tp); }
  std::int64_t ep_along_dp() const { return ep / ep_along_tp(); }
  // Into how many parts optimizer state is cut; 1: it is whole.
  std::int64_t shards() const { return zero == 0 ? 1 : (shard == 0 ? dp * ways() : shard) * cp; }
};

// Reads the "strategy" part, all but finish(). Records mistakes. A dp that is not given is 0: it follows from the
// devices. Words of the format that are not built are refused by name.
Strategy read_strategy(ObjectReader& reader);

// The part with every default filled in, as far as the strategy alone knows them (job.h: resolved()).
nlohmann::json to_json(const Strategy& strategy);

}  // namespace foretrain::plan
