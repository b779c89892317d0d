// Mixtures of experts train like one rank, wherever the experts are: every way to spread them, with every strategy, in
// fp64 to 1e-12 over five steps; fp32 and bf16 to their own tolerances. With poisoned memory.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using Words = std::vector<std::string>;

const Words kBase = {"global_batch=8",
                     "seq_len=12",
                     "workload.model.hidden=40",
                     "workload.model.heads=8",
                     "workload.model.head_dim=6",
                     "workload.model.ffn_hidden=56",
                     "padded_vocab=72"};

void expect_parity(Words words) {
  words.insert(words.begin(), kBase.begin(), kBase.end());
  testing::expect_parity(testing::kTinyMoe, words);
}

// Where experts are: on each rank; apart along dp; cut over tp; whole on tp ranks, which may hold different ones.
const std::vector<Words> kPlaces = {
    {},
    {"dp=2"},
    {"dp=2", "ep=2"},
    {"dp=4", "ep=2"},
    {"dp=4", "ep=4"},
    {"dp=8", "ep=8"},
    {"tp=2"},
    {"tp=2", "sequence_parallel=true"},
    {"tp=2", "dp=2", "ep=2"},
    {"tp=2", "dp=4", "ep=2", "sequence_parallel=true"},
    {"tp=2", "sequence_parallel=true", "expert_tp=1"},
    {"tp=2", "sequence_parallel=true", "expert_tp=1", "ep=2"},
    {"tp=4", "sequence_parallel=true", "expert_tp=1", "ep=2"},
    {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"},
    {"tp=2", "dp=4", "sequence_parallel=true", "expert_tp=1", "ep=4"},
    {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=2"},
};

TEST(MoeParity, EveryPlaceOfTheExperts) {
  for (const Words& place : kPlaces) {
    expect_parity(place);
  }
}

TEST(MoeParity, WithZeroOne) {
  // Where several ranks hold the same experts, or none do.
  for (Words place : std::vector<Words>{{"dp=4", "ep=2"},
                                        {"dp=2", "ep=2"},
                                        {"tp=2", "dp=4", "ep=2"},
                                        {"tp=2", "sequence_parallel=true", "expert_tp=1"},
                                        {"tp=2", "dp=4", "sequence_parallel=true", "expert_tp=1", "ep=4"}}) {
    place.insert(place.end(), {"zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true", "bucket_bytes=1 kB"});
    expect_parity(place);
  }
}

// Dense layers first, then experts; what either keeps passes through the host.
TEST(MoeParity, WithActivationsOnTheHost) {
  expect_parity({"offload=[\"activations\"]"});
  expect_parity({"offload=[\"activations\"]", "offload_layers=2", "dp=2", "ep=2", "pp=2"});
  expect_parity({"offload=[\"activations\"]", "workload.model.layers=7", "workload.model.moe.every=2", "pp=2"});
  expect_parity({"offload=[\"activations\"]", "offload_layers=3", "workload.model.layers=7",
                 "workload.model.moe.every=3", "dp=2", "ep=2"});
  expect_parity(
      {"offload=[\"activations\"]", "tp=2", "sequence_parallel=true", "expert_tp=1", "ep=2", "recompute=full"});
}

// Two copies of every expert, on a pair of pipeline ranks.
TEST(MoeParity, WithDualPipe) {
  expect_parity({"schedule=dualpipe", "pp=2", "dp=2", "ep=2"});
  expect_parity({"schedule=dualpipe", "pp=4", "zero=1"});
  expect_parity({"schedule=dualpipe", "pp=2", "zero=1", "dp=2", "ep=2", "tp=2", "sequence_parallel=true"});
}

// Sequences cut over ranks: their tokens are routed apart and balanced together.
TEST(MoeParity, WithContextParallelism) {
  expect_parity({"cp=2"});
  expect_parity({"cp=2", "dp=2", "ep=2", "zero=1"});
  expect_parity({"cp=2", "dp=2", "ep=2", "tp=2", "cp_kind=all_to_all", "workload.model.kv_heads=4"});
  expect_parity({"cp=2", "dp=2", "ep=4", "tp=2", "sequence_parallel=true", "expert_tp=1", "recompute=full"});
}

// A layer's unit has three families, of which experts have ranks of their own to share with, or none.
TEST(MoeParity, WithShardedGradientsAndParameters) {
  const std::vector<Words> places = {{"dp=4", "ep=2"},
                                     {"dp=2", "ep=2"},
                                     {"dp=2"},
                                     {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=2"},
                                     {"cp=2", "dp=2", "ep=2"}};
  for (Words words : places) {
    words.emplace_back("zero=3");
    expect_parity(words);
  }
  expect_parity({"dp=4", "ep=2", "zero=2", "overlap_grad_reduce=true", "overlap_param_gather=true"});
  // In groups, which hold whole sets of experts: two of each, or one (then experts are shared out across groups only).
  for (const char* const zero : {"zero=1", "zero=2", "zero=3"}) {
    expect_parity({"dp=8", "ep=2", "shard=4", zero});
    expect_parity({"dp=4", "ep=2", "shard=2", zero, "overlap_grad_reduce=true"});
  }
  expect_parity({"tp=2", "dp=4", "sequence_parallel=true", "expert_tp=1", "ep=4", "shard=2", "zero=3"});
  expect_parity({"cp=2", "dp=4", "ep=2", "shard=2", "zero=1"});
  for (const char* const ep : {"ep=1", "ep=2", "ep=4"}) {
    expect_parity({"dp=4", ep, "zero=1", "zero_kind=owners", "bucket_bytes=1 kB", "overlap_grad_reduce=true"});
  }
  expect_parity({"dp=4", "ep=2", "zero=3", "pp=2", "schedule=interleaved", "virtual_stages=2", "recompute=full"});
  expect_parity({"dp=4", "ep=2", "zero=3", "strategy.prefetch=0", "reshard=false", "micro_batch=2", "precision=bf16"});
}

// With what else there is; dense layers in the first stage only.
TEST(MoeParity, WithPipelinesRecomputeAndLargerMicrobatches) {
  const std::vector<Words> others = {
      {"pp=2"},
      {"pp=2", "schedule=interleaved", "virtual_stages=2"},
      {"pp=2", "schedule=zb_h1"},
      {"pp=2", "schedule=zb_v", "recompute=full"},
      {"recompute=full"},
      {"schedule=zb_h1", "recompute=full"},
      {"micro_batch=2", "overlap_grad_reduce=true"},
      {"pp=2", "layers_per_stage=[1,3]"},
      {"rank_order=tp,cp,dp,pp"},
  };
  const std::vector<Words> places = {{"dp=2", "ep=2"},
                                     {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"}};
  for (const Words& other : others) {
    for (Words words : places) {
      words.insert(words.end(), other.begin(), other.end());
      expect_parity(words);
    }
  }
}

// 7 layers, so that stages have other layers with experts: on pp 2 x virtual_stages 2 local ones 3, and 1.
TEST(MoeParity, ExpertsInEveryThirdOrSecondLayer) {
  for (Words words : std::vector<Words>{{"dp=2", "ep=2", "pp=2", "schedule=interleaved", "virtual_stages=2"},
                                        {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"},
                                        {"pp=2", "schedule=zb_h1", "workload.model.moe.every=3"},
                                        {"dp=4", "ep=2", "zero=3", "overlap_grad_reduce=true"},
                                        {"dp=2", "ep=2", "zero=1", "recompute=full", "bucket_bytes=1 kB",
                                         "overlap_grad_reduce=true", "workload.model.moe.every=3"}}) {
    words.insert(words.begin(), {"workload.model.layers=7", "workload.model.moe.every=2"});
    expect_parity(words);
  }
}

// The exchanges of a microbatch beside another's compute, in every schedule that has pairs: with layers of one kind or
// two, whole or cut experts, ranks that sort what arrives or need not, and weight gradients apart.
TEST(MoeParity, ExchangesBesideAnotherMicrobatch) {
  for (Words words : std::vector<Words>{
           {"dp=2", "ep=2"},
           {"dp=4", "ep=4", "zero=1", "overlap_grad_reduce=true", "bucket_bytes=1 kB"},
           {"dp=2", "ep=2", "pp=2", "workload.model.moe.every=2", "micro_batch=2"},
           {"dp=2", "ep=2", "pp=2", "schedule=interleaved", "virtual_stages=2"},
           {"dp=2", "ep=2", "pp=2", "schedule=dualpipe_v", "workload.model.moe.bias=true",
            "workload.model.moe.shared_experts=0"},
           {"tp=2", "dp=2", "ep=2", "sequence_parallel=true", "workload.model.moe.shared_gate=true"},
           {"tp=2", "dp=2", "ep=4", "sequence_parallel=true", "expert_tp=1", "pp=2", "schedule=dualpipe_v"},
           {"cp=2", "dp=2", "ep=2", "pp=2", R"(recompute=["mlp", "attention_core"])", "cp_kind=all_to_all",
            "workload.model.kv_heads=4"},
           {"dp=2", "ep=2", "pp=2", "schedule=dualpipe_v", "precision=bf16"}}) {
    words.emplace_back("overlap_ep=true");
    expect_parity(words);
  }
}

// Beside attention of other kinds, and with a part of a layer computed again.
TEST(MoeParity, WithLatentAttentionNormsOfHeadsAndModulesAgain) {
  const Words latent = {
      "workload.model.kv_heads=8",
      R"(workload.model.mla={"q_rank": 12, "kv_rank": 10, "nope_dim": 4, "rope_dim": 2, "v_dim": 4})"};
  const Words norms = {"workload.model.qk_norm=true"};
  // Its sequences cut over ranks, of which all have one key for all heads.
  for (const char* const kind : {"ring", "all_gather", "all_to_all"}) {
    for (Words words : std::vector<Words>{{"cp=2", "dp=2", "ep=2"}, {"cp=2", "tp=2", "sequence_parallel=true"}}) {
      words.insert(words.end(), latent.begin(), latent.end());
      words.push_back(std::string("cp_kind=") + kind);
      expect_parity(words);
      words.emplace_back("recompute=[\"mla_up\"]");
      expect_parity(words);
    }
  }
  const std::vector<Words> places = {{"dp=2", "ep=2"},
                                     {"tp=2", "ep=2", "sequence_parallel=true", "expert_tp=1", "zero=1", "dp=2"}};
  for (const Words& place : places) {
    for (Words words : std::vector<Words>{latent, norms}) {
      words.insert(words.end(), place.begin(), place.end());
      expect_parity(words);
    }
    for (const char* const modules : {R"(["norm"])", R"(["activation", "norm"])", R"(["mlp", "attention_core"])"}) {
      for (const char* const schedule : {"schedule=1f1b", "schedule=zb_h1"}) {
        Words words = place;
        words.insert(words.end(), {std::string("recompute=") + modules, "pp=2", schedule});
        expect_parity(words);
      }
    }
  }
}

// Capacity is counted by rank and microbatch: one rank drops the same tokens.
TEST(MoeParity, EveryKindOfRouter) {
  const std::vector<Words> routers = {
      {"workload.model.moe.capacity_factor=1"},
      {"workload.model.moe.capacity_factor=0.5", "workload.model.moe.aux_loss=0"},
      {"workload.model.moe.router=sigmoid", "workload.model.moe.weight_scale=2.5"},
      {"workload.model.moe.router=sigmoid", "workload.model.moe.groups=4", "workload.model.moe.top_groups=2"},
      {"workload.model.moe.groups=4", "workload.model.moe.top_groups=2", "workload.model.moe.group_best=1"},
      {"workload.model.moe.shared_gate=true"},
      {"workload.model.moe.bias=true"},
      {"workload.model.moe.normalize_weights=false", "workload.model.moe.top_k=3"},
      {"workload.model.moe.top_k=1", "workload.model.moe.shared_experts=0"},
      {"workload.model.moe.first_dense_layers=0", "workload.model.activation=gelu"},
      {"workload.model.moe.first_dense_layers=4"},
      {"workload.model.moe.experts=1", "workload.model.moe.top_k=1", "ep=1"},
  };
  for (const Words& router : routers) {
    for (Words words : std::vector<Words>{{"dp=2", "ep=2"}, {"tp=2", "dp=2", "ep=2"}}) {
      words.insert(words.end(), router.begin(), router.end());
      expect_parity(words);
    }
  }
}

TEST(MoeParity, AGateOfTheSharedExperts) {
  for (Words words : std::vector<Words>{{"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"},
                                        {"tp=2", "sequence_parallel=true", "zero=1", "dp=2", "recompute=full"},
                                        {"pp=2", "schedule=zb_h1", "micro_batch=2", "tp=2"},
                                        {"pp=2", "schedule=zb_h1", R"(recompute=["activation"])"},
                                        {"dp=2", "ep=2", "precision=bf16"}}) {
    words.insert(words.end(), {"workload.model.moe.shared_gate=true", "workload.model.moe.shared_experts=2"});
    expect_parity(words);
  }
}

TEST(MoeParity, BiasesOfExpertsAndRouter) {
  for (Words words : std::vector<Words>{{"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4", "zero=1"},
                                        {"tp=2", "sequence_parallel=true", "zero=1", "dp=2", "recompute=full"},
                                        {"pp=2", "schedule=zb_h1", "dp=2", "ep=2"},
                                        {"dp=4", "ep=2", "zero=3"},
                                        {"dp=2", "ep=2", "precision=bf16"}}) {
    words.insert(words.end(), {"workload.model.moe.bias=true", "workload.model.moe.shared_experts=0"});
    expect_parity(words);
  }
}

TEST(MoeParity, InFp32AndBf16) {
  for (const char* const precision : {"precision=fp32", "precision=bf16"}) {
    for (const Words& place : std::vector<Words>{{"dp=4", "ep=2", "zero=1"},
                                                 {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4"}}) {
      Words words = place;
      words.emplace_back(precision);
      expect_parity(words);
    }
  }
}

}  // namespace
}  // namespace foretrain::exec
