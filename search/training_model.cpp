#include "search/training_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace foretrain::search {

namespace {

// Latent attention is stated whole or not at all; a model's published shape stands in where the row only names it.
void fill_latent_attention(const TrainingRow& row, Filler& f) {
  const auto& m = row.model;
  if (!m.latent_attention || (!m.kv_rank && f.by_rule("workload.model.mla", "mla") != nullptr)) {
    return;
  }
  f.state("workload.model.mla.q_rank", m.q_rank.value_or(0));
  f.require("workload.model.mla.kv_rank", m.kv_rank);
  f.require("workload.model.mla.nope_dim", m.nope_dim);
  f.require("workload.model.mla.rope_dim", m.rope_dim);
  f.require("workload.model.mla.v_dim", m.v_dim);
}

void fill_experts(const TrainingRow& row, Filler& f) {
  const auto& m = row.model;
  if (!m.moe) {
    return;
  }
  f.require("workload.model.moe.experts", m.experts);
  f.require("workload.model.moe.top_k", m.top_k);
  f.require("workload.model.moe.ffn_hidden", m.expert_ffn);
  if (m.expert_shared_ffn || m.expert_shared) {
    f.state("workload.model.moe.shared_experts", m.expert_shared.value_or(1));
    if (m.expert_shared_ffn) {
      f.state("workload.model.moe.shared_ffn_hidden",
              *m.expert_shared_ffn / std::max<std::int64_t>(1, m.expert_shared.value_or(1)));
    }
  }
  if (m.dense_layers) {
    f.state("workload.model.moe.first_dense_layers", *m.dense_layers);
  }
  if (m.capacity_factor) {
    f.state("workload.model.moe.capacity_factor", *m.capacity_factor);
  }
  if (row.plan.ep) {
    f.state("strategy.ep", *row.plan.ep);
  }
  if (row.plan.expert_tp) {
    f.state("strategy.expert_tp", *row.plan.expert_tp);
  }
}

}  // namespace

void fill_model(const TrainingRow& row, Filler& f) {
  const auto& m = row.model;
  if (m.encoder) {
    f.state("workload.model.architecture", "encoder");
  }
  f.require("workload.model.layers", m.layers);
  f.require("workload.model.hidden", m.hidden);
  f.require("workload.model.heads", m.heads);
  f.require("workload.model.ffn_hidden", m.ffn_hidden);
  f.require("workload.seq_len", m.seq_len);
  if (m.kv_heads) {
    f.state("workload.model.kv_heads", *m.kv_heads);
  }
  if (m.head_dim) {
    f.state("workload.model.head_dim", *m.head_dim);
  }
  f.fill("workload.model.vocab", "vocab", m.vocab, true);
  f.fill("workload.model.tied_embeddings", "tied_embeddings", m.tied_embeddings);
  f.by_rule("workload.model.activation", "activation");
  f.by_rule("workload.model.norm", "norm");
  f.by_rule("workload.model.positions", "positions");
  f.by_rule("workload.model.qk_norm", "qk_norm");
  if (const FieldRule* biases = f.by_rule("workload.model.mlp_bias", "biases")) {
    f.by_rule("workload.model.attention_bias", nlohmann::json::parse(biases->value), "as mlp_bias");
  }
  if (!m.name.empty()) {
    f.document()["workload"]["model"]["name"] = m.name;
  }
  fill_latent_attention(row, f);
  fill_experts(row, f);
}

}  // namespace foretrain::search
