// A published measurement of a training run, as its row states it; what it does not state is absent here
// (docs/formats.md has the schema). Nothing is filled in: search/training_job.h does that, by rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "search/row_reader.h"

namespace foretrain::search {

struct TrainingRow {
  std::string id, group;
  bool exact = false;    // "exact config stated"
  bool flagged = false;  // the source contradicts itself, or the row has a caveat

  struct {
    std::string name;
    bool encoder = false;  // of BERT's kind, with masked tokens
    std::optional<std::int64_t> layers, hidden, heads, kv_heads, head_dim, ffn_hidden, vocab, seq_len;
    std::optional<bool> gated_mlp, tied_embeddings;
    bool moe = false;
    // Of the experts; expert_shared_ffn is the width of all shared ones, expert_shared how many they are.
    std::optional<std::int64_t> experts, top_k, expert_ffn, expert_shared, expert_shared_ffn, dense_layers;
    std::optional<double> capacity_factor;
    bool latent_attention = false;
    std::optional<std::int64_t> q_rank, kv_rank, nope_dim, rope_dim, v_dim;  // of latent attention
  } model;
  struct {
    std::string gpu, family;
    std::optional<std::int64_t> gpus, gpus_per_node;
    std::optional<double> inter_node_gbps;  // Gb/s, of a node unless inter_per_gpu; nothing where it is only described
    bool inter_per_gpu = false, inter_has_scope = false;
  } cluster;
  struct {
    std::optional<std::int64_t> dp, tp, pp, cp, ep, expert_tp, vpp, micro_batch, global_batch, zero_stage, zero1_group;
    std::string vpp_words;  // where vpp is described and no number
    // Words as the source has them; "" absent. fsdp: "false" too is a word.
    std::string fsdp, recompute, overlap, precision, framework, schedule, kernel, fsdp_mixed_precision, cp_comm,
        dispatcher;
    std::optional<bool> sequence_parallel, distributed_optimizer, activation_cpu_offload, compile;
  } plan;
  // measured.step_time_s, else derived.step_time_s; derived_by: how the row came to it then.
  std::optional<double> step_time_s;
  std::string derived_by;
  std::optional<double> memory_gib;
  std::string memory_kind;
  bool out_of_memory = false;

  bool is_fsdp() const { return !plan.fsdp.empty() && plan.fsdp != "false"; }
};

// Requires: a row with "measured". Mistakes go to the reader; the row is then not to be used.
TrainingRow read_training_row(const RowReader& reader);

}  // namespace foretrain::search
