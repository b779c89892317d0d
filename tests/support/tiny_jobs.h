// Small jobs for tests, written as a user would: JSON plus overrides.
#pragma once

#include <string>
#include <vector>

#include "plan/job.h"

namespace foretrain::testing {

// GPT-2 style: layernorm, gelu, learned positions, biases, tied embeddings. 4 layers, hidden 48, 4 heads, vocabulary 61
// (padded), 8 sequences of 16 tokens, fp64 on this machine.
inline const char* const kTinyGpt = R"({"version": 1,
  "workload": {"model": {"architecture": "decoder", "layers": 4, "hidden": 48, "heads": 4, "ffn_hidden": 80, "vocab": 61,
                         "activation": "gelu", "norm": "layernorm", "positions": "learned", "tied_embeddings": true},
               "seq_len": 16, "global_batch": 8, "precision": "fp64", "optimizer": "adamw"},
  "cluster": {"system": "this-machine"}, "strategy": {"micro_batch": 1}})";

// Llama style: rmsnorm, swiglu, rotary, grouped queries, no biases, untied head.
inline const char* const kTinyLlama = R"({"version": 1,
  "workload": {"model": {"architecture": "decoder", "layers": 4, "hidden": 48, "heads": 4, "kv_heads": 2, "ffn_hidden": 72,
                         "vocab": 61, "activation": "swiglu", "norm": "rmsnorm", "positions": "rotary",
                         "tied_embeddings": false},
               "seq_len": 16, "global_batch": 8, "precision": "fp64", "optimizer": "adamw"},
  "cluster": {"system": "this-machine"}, "strategy": {"micro_batch": 1}})";

// Mixtral and DeepSeek style: the first layer has an MLP, three have 8 experts of which a token passes 2, and a shared
// one; loads are balanced.
inline const char* const kTinyMoe = R"({"version": 1,
  "workload": {"model": {"architecture": "decoder", "layers": 4, "hidden": 48, "heads": 4, "kv_heads": 2, "ffn_hidden": 72,
                         "vocab": 61, "activation": "swiglu", "norm": "rmsnorm", "positions": "rotary",
                         "tied_embeddings": false,
                         "moe": {"experts": 8, "top_k": 2, "ffn_hidden": 24, "shared_experts": 1, "aux_loss": 0.05,
                                 "first_dense_layers": 1}},
               "seq_len": 16, "global_batch": 8, "precision": "fp64", "optimizer": "adamw"},
  "cluster": {"system": "this-machine"}, "strategy": {"micro_batch": 1}})";

// BERT style: norms behind, every token sees all, masked tokens are told, two of each sequence of 16.
inline const char* const kTinyBert = R"({"version": 1,
  "workload": {"model": {"architecture": "encoder", "layers": 4, "hidden": 48, "heads": 4, "ffn_hidden": 80, "vocab": 61},
               "seq_len": 16, "global_batch": 8, "precision": "fp64", "optimizer": "adamw"},
  "cluster": {"system": "this-machine"}, "strategy": {"micro_batch": 1}})";

// BERT fine-tuned: which of 3 classes a padded sequence of 4 to 16 tokens is of.
inline const char* const kTinyClassifier = R"({"version": 1,
  "workload": {"model": {"architecture": "encoder", "layers": 4, "hidden": 48, "heads": 4, "ffn_hidden": 80, "vocab": 61,
                         "head": "classifier", "classes": 3},
               "seq_len": 16, "global_batch": 8, "precision": "fp64", "optimizer": "adamw"},
  "cluster": {"system": "this-machine"}, "strategy": {"micro_batch": 1}})";

// T5 style: an encoder of 2 layers and a decoder of 3, relative positions, scores without scale; 8 tokens told of 16
inline const char* const kTinyT5 = R"({"version": 1,
  "workload": {"model": {"architecture": "encoder_decoder", "layers": 5, "encoder_layers": 2, "hidden": 48, "heads": 4,
                         "ffn_hidden": 80, "vocab": 61, "activation": "relu", "norm": "rmsnorm",
                         "relative_buckets": 8, "relative_distance": 10},
               "seq_len": 16, "target_len": 8, "global_batch": 8, "precision": "fp64", "optimizer": "adamw"},
  "cluster": {"system": "this-machine"}, "strategy": {"micro_batch": 1}})";

// For forecasts: a decoder of 4 layers on one node with 4 H100.
inline const char* const kTinyOnH100 = R"({"version": 1,
  "workload": {"model": {"architecture": "decoder", "layers": 4, "hidden": 192, "heads": 4, "ffn_hidden": 512, "vocab": 512},
               "seq_len": 64, "global_batch": 16, "precision": "bf16"},
  "cluster": {"system": "dgx-h100", "nodes": 1, "devices_per_node": 4}})";

inline plan::Job tiny_job(const char* text, const std::vector<std::string>& overrides = {}) {
  return plan::job_from_text(text, "test job", overrides);
}

}  // namespace foretrain::testing
