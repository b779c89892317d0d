// Encoders, and encoders with decoders, train like one rank under every strategy that they have; with poisoned memory:
// what is dead must not be read.
#include <gtest/gtest.h>

#include "tests/exec/overrides.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::joined;
using testing::kBase;
using testing::Overrides;
using testing::strategies;
using testing::Strategy;
using testing::words;

void expect_parity(const char* model, const Overrides& overrides) {
  testing::expect_parity(model, words(overrides));
}

// Norms behind the sums, and masked tokens: with every strategy that such a model has, and some together.
TEST(Parity, Encoder) {
  for (const Strategy& s : strategies()) {
    const auto has = [&](const char* key) { return s.overrides.contains(key); };
    const bool recomputes_norms = has("recompute") && s.overrides.at("recompute").find("norm") != std::string::npos;
    if (!recomputes_norms && !has("workload.model.parallel_residual") && !has("workload.model.attention_window") &&
        !has("document_length") && !has("workload.model.attention_sinks")) {
      expect_parity(testing::kTinyBert, joined(kBase, s.overrides));
    }
  }
  const Overrides sp = {{"tp", "2"}, {"sequence_parallel", "true"}};
  for (const Overrides& o : std::vector<Overrides>{
           {{"tp", "4"}, {"cp", "2"}, {"recompute", "full"}},
           {{"cp", "3"}, {"micro_batch", "2"}, {"attention", "flash"}, {"workload.model.attention_sinks", "true"}},
           {{"cp", "2"}, {"cp_kind", "all_to_all"}, {"attention", "unfused"}, {"dp", "2"}},
           joined(sp, {{"pp", "2"}, {"dp", "2"}, {"zero", "1"}}),
           joined(sp, {{"dp", "2"}, {"zero", "3"}, {"recompute", R"(["mlp"])"}}),
           joined(sp, {{"pp", "2"}, {"schedule", "zb_h1"}, {"recompute", "full"}}),
           joined(sp, {{"recompute", "full"}, {"recompute_early_stop", "true"}, {"workload.masked_share", "0.5"}}),
           {{"pp", "4"}, {"offload", R"(["activations"])"}, {"layers_per_stage", "[0,3,1,0]"}},
           {{"pp", "2"}, {"schedule", "dualpipe"}},
           {{"workload.model.tied_embeddings", "false"}, {"pp", "2"}, {"tp", "2"}},
           {{"workload.model.norm", "rmsnorm"}, {"workload.model.positions", "rotary"}, {"tp", "2"}},
           joined(sp, {{"precision", "bf16"}, {"pp", "2"}}),
           {{"precision", "fp32"}, {"dp", "2"}, {"zero", "2"}, {"tp", "2"}}}) {
    expect_parity(testing::kTinyBert, joined(kBase, o));
  }
}

// An encoder and a decoder, of T5's kind and with learned positions and biases: with every strategy that such a model
// has, and some together.
TEST(Parity, EncoderAndDecoder) {
  const Overrides plain = {{"workload.model.norm", "layernorm"},   {"workload.model.positions", "learned"},
                           {"workload.model.max_positions", "16"}, {"workload.model.attention_bias", "true"},
                           {"workload.model.mlp_bias", "true"},    {"workload.model.activation", "gelu"}};
  const Overrides sp = {{"tp", "2"}, {"sequence_parallel", "true"}};
  for (const Overrides& o : std::vector<Overrides>{
           {},
           {{"dp", "2"}},
           {{"dp", "2"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}},
           {{"dp", "2"}, {"zero", "1"}, {"bucket_bytes", "1 kB"}},
           {{"dp", "2"}, {"zero", "1"}, {"overlap_grad_reduce", "true"}, {"overlap_param_gather", "true"}},
           {{"dp", "2"}, {"zero", "2"}},
           {{"dp", "2"}, {"zero", "3"}},
           {{"dp", "2"}, {"zero", "3"}, {"reshard", "false"}, {"recompute", "full"}},
           {{"dp", "2"}, {"zero", "3"}, {"workload.model.tied_embeddings", "false"}},
           {{"dp", "2"}, {"zero", "2"}, {"workload.model.tied_embeddings", "false"}},
           {{"dp", "4"}, {"global_batch", "24"}, {"zero", "3"}, {"shard", "2"}, {"strategy.prefetch", "2"}},
           {{"tp", "2"}},
           {{"tp", "4"}, {"dp", "2"}, {"zero", "1"}},
           {{"tp", "2"}, {"overlap_tp", "false"}},
           sp,
           joined(sp, {{"dp", "2"}, {"zero", "3"}}),
           joined(sp, {{"recompute", "full"}, {"recompute_early_stop", "true"}}),
           {{"recompute", "full"}, {"dp", "2"}, {"zero", "2"}},
           {{"recompute", R"(["attention_core","norm","activation"])"}, {"tp", "2"}},
           {{"recompute", R"(["norm","mlp"])"}},
           {{"recompute", "selective"}},
           {{"micro_batch", "3"}},
           {{"fused_grad_accumulation", "false"}},
           {{"offload", R"(["optimizer"])"}, {"dp", "2"}},
           {{"workload.model.kv_heads", "2"}, {"tp", "2"}, {"workload.model.activation", "geglu"}},
           {{"target_len", "16"}, {"workload.optimizer", R"({"name":"momentum","learning_rate":0.05})"}, {"dp", "3"}},
           joined(sp, {{"precision", "bf16"}, {"dp", "2"}}),
           {{"precision", "fp32"}, {"dp", "2"}, {"zero", "2"}, {"tp", "2"}}}) {
    expect_parity(testing::kTinyT5, joined(kBase, o));
    expect_parity(testing::kTinyT5, joined(kBase, joined(plain, o)));
  }
}

// What an encoder has by default, on its own: a decoder with norms behind, an encoder with norms before, and their
// like.
TEST(Parity, PartsOfAnEncoder) {
  const Overrides sp = {{"tp", "2"}, {"sequence_parallel", "true"}, {"pp", "2"}};
  for (const Overrides& o : std::vector<Overrides>{{{"workload.model.norm_position", "post"}},
                                                   {{"workload.model.embedding_norm", "true"}},
                                                   {{"workload.model.token_types", "3"}},
                                                   {{"workload.model.architecture", "encoder"},
                                                    {"workload.model.norm_position", "pre"},
                                                    {"workload.model.token_types", "0"}}}) {
    expect_parity(testing::kTinyGpt, joined(kBase, joined(sp, o)));
  }
}

}  // namespace
}  // namespace foretrain::exec
