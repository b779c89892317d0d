#include "plan/job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/catalogue.h"
#include "plan/overrides.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using test::message_of;
using Overrides = std::vector<std::string>;

constexpr const char* kGpt3 = R"({ "version": 1,
  "workload": { "model": "gpt3-175b", "seq_len": 2048, "global_batch": 1536, "precision": "bf16", "optimizer": "adam",
                "attention": "fused_softmax" },
  "cluster":  { "system": "dgx-a100-80gb", "nodes": 128 },
  "strategy": { "dp": 16, "tp": 8, "pp": 8, "micro_batch": 1, "sequence_parallel": true, "recompute": "selective" } })";

constexpr const char* kSmall = R"({"version": 1,
 "workload": {"model": {"layers": 6, "hidden": 48, "heads": 4, "kv_heads": 2, "vocab": 61, "ffn_hidden": 96},
  "seq_len": 16, "global_batch": 8},
 "cluster": {"system": "this-machine"},
 "strategy": {}})";

Job read(const std::string& text, const Overrides& overrides = {}) {
  return job_from_text(text, "job.json", overrides);
}
Job small(const Overrides& overrides = {}) {
  return read(kSmall, overrides);
}
std::string refusal(const Overrides& overrides) {
  return message_of([&] { small(overrides); });
}

TEST(Job, TheDesignsExample) {
  const Job job = read(kGpt3);
  EXPECT_EQ(job.strategy.ranks(), 1024);
  EXPECT_EQ(job.microbatches(), 96);  // 1536 / (16 x 1)
  EXPECT_EQ(job.workload.model.hidden, 12288);
  EXPECT_EQ(job.strategy.schedule, ScheduleKind::one_f_one_b);
  EXPECT_EQ(padded_vocab(job), 51200);              // 50257 up to a multiple of 128 x 8
  EXPECT_EQ(bucket_bytes(job).value, 160'000'000);  // 40 million fp32 gradients
  EXPECT_EQ(layers_per_stage(job), std::vector<std::int64_t>(8, 12));
}

TEST(Job, Defaults) {
  const Job job = small();
  EXPECT_EQ(job.strategy.ranks(), 1);
  EXPECT_EQ(job.strategy.micro_batch, 1);
  EXPECT_EQ(job.strategy.zero, 0);
  EXPECT_EQ(job.strategy.recompute, Recompute::none);
  EXPECT_EQ(job.workload.precision.word, "fp32");  // of this machine
  EXPECT_EQ(read(kGpt3, {"workload.precision=bf16"}).workload.precision.word, "bf16");
  EXPECT_EQ(job.cluster.nodes, 1);
  // Without a strategy part too.
  EXPECT_EQ(read(R"({"version": 1, "workload": {"model": "tiny-gpt", "seq_len": 8, "global_batch": 1},
                     "cluster": {"system": "this-machine"}})")
                .strategy.ranks(),
            1);
}

TEST(Job, AxesFillTheCluster) {
  const std::string text = R"({"version": 1, "workload": {"model": "llama3-8b", "seq_len": 4096, "global_batch": 64},
                               "cluster": {"system": "dgx-h100", "nodes": 4}, "strategy": {"tp": 8}})";
  EXPECT_EQ(read(text).strategy.dp, 4);  // 32 devices / tp 8
  EXPECT_EQ(read(text).workload.precision.word, "bf16");
  const std::string no_nodes =
      R"({"version": 1, "workload": {"model": "llama3-8b", "seq_len": 4096, "global_batch": 64},
                                   "cluster": {"system": "dgx-h100"}, "strategy": {"tp": 8, "dp": 2}})";
  EXPECT_EQ(read(no_nodes).cluster.nodes, 2);
  EXPECT_EQ(read(no_nodes, {"dp=1", "tp=4", "devices_per_node=4"}).cluster.nodes, 1);
  EXPECT_EQ(
      message_of([&] {
        read(no_nodes, {"dp=1", "tp=4"});
      }),
      "job.json:2: /strategy: dp 1 x tp 4 x pp 1 x cp 1 = 4 ranks, but the cluster has 8 devices (1 nodes x 8); they "
      "must be equal; cluster.devices_per_node=4 uses a part of a node");
  EXPECT_EQ(
      message_of([&] { read(text, {"dp=3"}); }),
      "job.json:2: /strategy: dp 3 x tp 8 x pp 1 x cp 1 = 24 ranks, but the cluster has 32 devices (4 nodes x 8); "
      "they must be equal\n"
      "job.json:1: /workload/global_batch: 64 is not a multiple of dp 3 x micro_batch 1 = 3");
}

TEST(Job, RanksMayOutnumberTheCoresOfThisMachine) {
  EXPECT_EQ(small({"dp=8", "tp=2", "pp=3"}).strategy.ranks(), 48);
}

TEST(Job, VirtualStagesMeanInterleaved) {
  EXPECT_EQ(small({"pp=3", "virtual_stages=2", "micro_batch=1", "global_batch=9"}).strategy.schedule,
            ScheduleKind::interleaved);
  EXPECT_EQ(refusal({"pp=3", "virtual_stages=2"}),
            "job.json:5: /strategy/schedule: interleaved needs microbatches in multiples of pp: 8 of them, pp 3");
  EXPECT_EQ(refusal({"virtual_stages=2"}), "command line: /strategy/virtual_stages: 2 virtual stages need pp > 1");
  EXPECT_EQ(refusal({"pp=2", "schedule=interleaved"}),
            "command line: /strategy/schedule: interleaved needs virtual_stages > 1");
  EXPECT_EQ(refusal({"pp=2", "virtual_stages=2", "schedule=gpipe"}),
            "command line: /strategy/schedule: gpipe has no virtual stages; expected 1f1b or interleaved with "
            "virtual_stages > 1");
}

TEST(Job, SequenceParallelWithoutTensorParallelIsThePlainPlan) {
  EXPECT_FALSE(small({"sequence_parallel=true"}).strategy.sequence_parallel);
  EXPECT_TRUE(small({"sequence_parallel=true", "tp=2"}).strategy.sequence_parallel);
}

TEST(Job, WhatDoesNotDivideIsRefused) {
  EXPECT_EQ(refusal({"dp=3"}), "job.json:3: /workload/global_batch: 8 is not a multiple of dp 3 x micro_batch 1 = 3");
  EXPECT_EQ(refusal({"tp=3"}),
            "command line: /strategy/tp: 3 does not divide heads 4\n"
            "command line: /strategy/tp: 3 and kv_heads 2: one must be a multiple of the other");
  EXPECT_EQ(refusal({"tp=4", "ffn_hidden=50"}), "command line: /strategy/tp: 4 does not divide ffn_hidden 50");
  EXPECT_EQ(small({"tp=4"}).strategy.tp, 4);  // kv_heads 2 are replicated
  EXPECT_EQ(refusal({"tp=2", "sequence_parallel=true", "seq_len=15"}),
            "command line: /strategy/tp: 2 does not divide seq_len 15");
  EXPECT_EQ(refusal({"pp=7"}),
            "command line: /strategy/pp: 6 layers are fewer than pp 7 x virtual_stages 1 = 7 stages");
  EXPECT_EQ(refusal({"pp=2", "layers_per_stage=[2,3]"}),
            "command line: /strategy/layers_per_stage: do not sum to the model's 6 layers");
  EXPECT_EQ(refusal({"pp=2", "layers_per_stage=[6]"}),
            "command line: /strategy/layers_per_stage: 1 numbers, but pp 2 x virtual_stages 1 = 2 stages");
  EXPECT_EQ(refusal({"padded_vocab=60"}),
            "command line: /strategy/padded_vocab: 60 is not allowed; expected a multiple of tp 1 that is at least the "
            "vocabulary of 61");
  EXPECT_EQ(refusal({"precision=fp8"}), "command line: /workload/precision: \"fp8\" has no peak rate on " +
                                            small().cluster.device.name + "; expected one of: fp64, fp32, fp16, bf16");
}

TEST(Job, ExpertsMustLieOnTheRanks) {
  const auto refused = [](const std::vector<std::string>& words) {
    return message_of([&] { foretrain::testing::tiny_job(foretrain::testing::kTinyMoe, words); });
  };
  const auto at = [](const char* key) { return std::string("command line: /strategy/") + key + ": "; };
  EXPECT_EQ(refused({"ep=3", "dp=3", "global_batch=9"}), at("ep") + "3 does not divide 8 experts");
  EXPECT_EQ(refused({"ep=4", "dp=2"}), at("ep") + "4 does not divide dp 2");
  EXPECT_EQ(refused({"tp=4", "kv_heads=4", "expert_tp=2"}), at("expert_tp") + "2 is not allowed; expected 1 or tp 4");
  EXPECT_EQ(refused({"tp=2", "expert_tp=1"}),
            at("expert_tp") + "1 with tp 2 needs sequence_parallel: each rank routes tokens of its own");
  EXPECT_EQ(refused({"tp=2", "dp=2", "ep=8", "expert_tp=1", "sequence_parallel=true"}),
            at("ep") + "8 neither divides tp 2 nor is tp times a divisor of dp 2");
  EXPECT_EQ(refused({"tp=4", "workload.model.moe.ffn_hidden=22", "workload.model.moe.shared_experts=0"}),
            at("tp") + "4 does not divide the experts' ffn_hidden 22");
  EXPECT_EQ(refused({"tp=4", "workload.model.moe.shared_ffn_hidden=22"}),
            at("tp") + "4 does not divide the shared experts' width 22");
}

TEST(Job, ShardingIsReadAndChecked) {
  const auto at = [](const char* key) { return std::string("command line: /strategy/") + key + ": "; };
  const Strategy s = small({"dp=4", "zero=3", "shard=2", "reshard=false", "strategy.prefetch=2"}).strategy;
  EXPECT_EQ(s.shard, 2);
  EXPECT_FALSE(s.reshard);
  EXPECT_EQ(s.prefetch, 2);
  EXPECT_TRUE(s.overlap_grad_reduce);  // zero 2 and 3 overlap where nobody says otherwise
  EXPECT_FALSE(small({"dp=2", "zero=1"}).strategy.overlap_grad_reduce);
  EXPECT_EQ(refusal({"dp=4", "zero=1", "shard=3"}), at("shard") + "3 does not divide dp 4");
  EXPECT_EQ(refusal({"dp=4", "zero=1", "shard=1"}),
            at("shard") + "1 is not allowed; expected an integer from 2 to 1000000");
  EXPECT_EQ(refusal({"dp=4", "shard=2"}), at("shard") + "needs zero 1, 2 or 3: without it nothing is sharded");
  EXPECT_EQ(refusal({"zero=2", "reshard=true", "strategy.prefetch=1"}),
            at("reshard") + "needs zero 3: without it no parameters are gathered layer by layer\n" + at("prefetch") +
                "needs zero 3: without it no parameters are gathered layer by layer");
  EXPECT_EQ(refusal({"dp=2", "zero=2", "zero_kind=owners"}),
            at("zero_kind") + "owners broadcast what they updated: expected zero 1, not 2");
  EXPECT_EQ(refusal({"zero=1", "zero_kind=owners", "overlap_param_gather=true"}),
            at("overlap_param_gather") + "needs zero_kind shards: owners broadcast after the whole update");
  EXPECT_EQ(refusal({"zero=2", "pp=2", "schedule=zb_h1"}),
            at("zero") +
                "2 cannot go with zb_h1: its weight gradients come long after the input gradients, and would be "
                "whole until then; expected 0 or 1, or another schedule");
}

TEST(Job, WhatIsNotBuiltIsRefusedByName) {
  const auto at = [](const char* key) { return std::string("command line: /strategy/") + key + ": "; };
  EXPECT_EQ(refusal({"ep=2"}), at("ep") + "2 needs a model with moe; expected 1");
  EXPECT_EQ(refusal({"schedule=dualpipe", "pp=3"}),
            at("schedule") + "dualpipe needs an even pp, not 3: its ranks are pairs");
  EXPECT_EQ(refusal({"schedule=dualpipe", "pp=2", "dp=4", "zero=1", "shard=2"}),
            at("shard") + "in groups with dualpipe is not built yet; leave the key out");
  EXPECT_EQ(refusal({"schedule=dualpipe", "pp=2", "global_batch=7"}),
            at("schedule") + "dualpipe takes half of the microbatches from either end: 7 are not even");
  EXPECT_EQ(refusal({"schedule=dualpipe", "pp=2", "layers_per_stage=[2,2,1,1]"}),
            at("layers_per_stage") + "4 numbers, but pp 2 x virtual_stages 1 = 2 stages");
  EXPECT_EQ(refusal({"schedule=zero"}),
            at("schedule") +
                "\"zero\" is not allowed; expected one of: gpipe, 1f1b, interleaved, zb_h1, zb_h2, zb_v, dualpipe_v, "
                "dualpipe");
  EXPECT_EQ(refusal({"data_parallel=local_sgd", "ep=2"}),
            at("ep") + "2 with data_parallel local_sgd is not built yet; expected 1");
  EXPECT_EQ(refusal({"data_parallel=parameter_server", "zero=1", "tp=2", "staleness=0"}),
            at("zero") + "1 with data_parallel parameter_server is not built yet; expected 0\n" + at("tp") +
                "2 with data_parallel parameter_server is not built yet; expected 1");
  EXPECT_EQ(refusal({"compression=int8", "data_parallel=all_gather"}),
            at("compression") + "int8 with data_parallel all_gather is not built yet; expected none");
  EXPECT_EQ(refusal({"recompute=[\"mlp\",\"activation\"]"}),
            at("recompute") + "\"activation\" is a part of \"mlp\"; expected one of them");
  EXPECT_EQ(refusal({"recompute_early_stop=true"}),
            at("recompute_early_stop") + "needs recompute full: nothing else runs whole layers again");
  EXPECT_EQ(refusal({"recompute=[\"norm\",\"norm\"]"}), at("recompute") + "\"norm\" stands twice");
  EXPECT_EQ(refusal({"offload=[\"gradients\"]"}),
            at("offload") + "\"gradients\" in the list is not allowed; expected: optimizer, activations");
  EXPECT_EQ(refusal({"offload=[\"activations\"]", "pp=2", "schedule=zb_h1"}),
            at("offload") +
                "\"activations\" cannot go with zb_h1: its weight gradients would need them a second time; expected a "
                "schedule with whole backwards");
  EXPECT_EQ(refusal({"offload=[\"activations\"]", "recompute=full", "recompute_layers=1"}),
            at("offload") +
                "\"activations\" with recompute_layers is not built yet; expected recompute of all layers or none");
  EXPECT_EQ(refusal({"optimizer_sync=post_validation", "pp=2", "schedule=dualpipe"}),
            at("optimizer_sync") +
                "post_validation with dualpipe is not built yet: its stages have no one order; expected global");
  EXPECT_EQ(refusal({"offload_layers=1"}),
            at("offload_layers") + "needs offload [\"activations\"]: nothing else is offloaded by layers");
  EXPECT_EQ(refusal({"offload=[\"optimizer\"]", "dp=2", "zero=3"}),
            at("offload") +
                "\"optimizer\" with zero 3 is not built yet: parameters would be gathered from the host; "
                "expected zero 0, 1 or 2");
  EXPECT_EQ(refusal({"overlap_ep=true", "schedule=zb_h1", "recompute=full", "zero=2"}),
            at("zero") +
                "2 cannot go with zb_h1: its weight gradients come long after the input gradients, and would be "
                "whole until then; expected 0 or 1, or another schedule\n" +
                at("overlap_ep") +
                "needs forwards and backwards in turn: schedule 1f1b, interleaved or dualpipe_v, not "
                "zb_h1\n" +
                at("overlap_ep") +
                "does not go with recompute full, which exchanges tokens again at once; expected none, "
                "selective or a list of modules\n" +
                at("overlap_ep") + "with zero 2 is not built yet; expected zero 0 or 1");
  EXPECT_EQ(refusal({"overlap_ep=true"}),
            at("overlap_ep") + "needs a model with moe and ep > 1: without it no tokens are exchanged");
  EXPECT_EQ(refusal({"overlap_param_gather=true"}),
            at("overlap_param_gather") + "needs zero 1 or 2: only there parameters are gathered after the optimizer");
  EXPECT_EQ(refusal({"rank_order=tp,dp"}).substr(0, at("rank_order").size()), at("rank_order"));
}

TEST(Job, ScatterGatherNeedsAHiddenSizeInParts) {
  EXPECT_EQ(refusal({"tp=3", "pp=2", "scatter_gather=true", "workload.model.heads=6", "workload.model.kv_heads=6",
                     "workload.model.hidden=50", "workload.model.head_dim=8", "workload.model.ffn_hidden=6"}),
            "command line: /strategy/tp: 3 does not divide hidden 50");
}

TEST(Job, AllMistakesOfAFileAtOnce) {
  EXPECT_EQ(message_of([] {
              read(R"({
  "version": 2,
  "workload": {
    "model": "gpt2-124m",
    "seq_len": 0,
    "global_batch": 8
  },
  "cluster": {
    "system": "dgx-h100",
    "node": 1
  },
  "strategy": {
    "tp": "two",
    "micro_bach": 1
  },
  "strategies": {}
})");
            }),
            R"(job.json:2: /version: 2 is not allowed; expected 1
job.json:5: /workload/seq_len: 0 is not allowed; expected an integer from 1 to 10000000
job.json:13: /strategy/tp: "two" is not allowed; expected an integer from 1 to 1000000
job.json:16: /strategies: unknown key "strategies"; did you mean "strategy"? known: workload, cluster, strategy, version, name, description
job.json:10: /cluster/node: unknown key "node"; did you mean "nodes"? known: system, nodes, devices_per_node, profile, storage, disturbance
job.json:14: /strategy/micro_bach: unknown key "micro_bach"; did you mean "micro_batch"? known: dp, tp, pp, cp, cp_kind, ep, expert_tp, micro_batch, virtual_stages, schedule, zero, zero_kind, shard, reshard, prefetch, sequence_parallel, recompute, recompute_layers, recompute_early_stop, overlap_grad_reduce, overlap_param_gather, overlap_tp, overlap_ep, scatter_gather, fused_grad_accumulation, fused_activation, loss_chunks, bucket_bytes, layers_per_stage, rank_order, padded_vocab, compression, split_by_speed, offload, offload_layers, optimizer_sync, data_parallel, servers, server_sharding, server_replicas, staleness, server_order, elastic, average_every, local_group, outer_optimizer, loader_ranks)");
  EXPECT_EQ(message_of([] { read("{}"); }),
            "job.json:1: /version: missing, and has no default\n"
            "job.json:1: /workload: missing, and has no default\n"
            "job.json:1: /cluster: missing, and has no default");
  EXPECT_EQ(message_of([] { read("[1]"); }), "job.json:1: /: [1] is not allowed; expected an object");
  EXPECT_EQ(message_of([] { read(R"({"version": 1, "workload": {}, "cluster": {}})"); }),
            "job.json:1: /cluster/system: missing, and has no default\n"
            "job.json:1: /workload/seq_len: missing, and has no default\n"
            "job.json:1: /workload/model: missing, and has no default\n"
            "job.json:1: /workload/global_batch: missing, and has no default");
}

TEST(Job, SizesBeyondReasonAreRefusedNotComputed) {
  EXPECT_EQ(refusal({"dp=1000000", "tp=1000000"}).substr(0, 83),
            "job.json:5: /strategy: dp 1000000 x tp 1000000 x pp 1 x cp 1 are more than 1e+08 ra");
  EXPECT_EQ(
      refusal({"global_batch=100000000"}),
      "command line: /workload/global_batch: 100000000 microbatches through 1 stages; expected at most 2e+07 in all");
  EXPECT_EQ(
      refusal({"seq_len=10000000", "attention=unfused", "micro_batch=8"}),
      "command line: /strategy/micro_batch: one microbatch needs a tensor of 3e+15 elements; expected at most 1e+15");
}

// Stages get floor or ceil of layers / stages; 126 over 16: 7 on the first and the last, 8 elsewhere.
TEST(Job, LayersNeedNotDivide) {
  Job job;
  job.workload.model.layers = 126;
  job.strategy.pp = 16;
  std::vector<std::int64_t> expected(16, 8);
  expected.front() = expected.back() = 7;
  EXPECT_EQ(layers_per_stage(job), expected);
  for (std::int64_t layers = 1; layers <= 40; ++layers) {
    for (std::int64_t stages = 1; stages <= layers; ++stages) {
      job.workload.model.layers = layers;
      job.strategy.pp = stages;
      const auto split = layers_per_stage(job);
      EXPECT_EQ(std::accumulate(split.begin(), split.end(), std::int64_t{0}), layers);
      EXPECT_EQ(split.size(), static_cast<std::size_t>(stages));
      const auto [low, high] = std::minmax_element(split.begin(), split.end());
      EXPECT_LE(*high - *low, 1);
      EXPECT_LE(split.back(), split.front());
    }
  }
  job.workload.model.layers = 9;
  job.strategy.pp = 4;  // 3 short by one: last, first, then the one before the last
  EXPECT_EQ(layers_per_stage(job), (std::vector<std::int64_t>{2, 3, 2, 2}));
  job.strategy.layers_per_stage = {6, 1, 1, 1};
  EXPECT_EQ(layers_per_stage(job), job.strategy.layers_per_stage);
}

TEST(Job, VocabularyIsPadded) {
  Job job;
  job.workload.model.vocab = 50257;
  EXPECT_EQ(padded_vocab(job), 50304);  // 393 x 128
  job.strategy.tp = 8;
  EXPECT_EQ(padded_vocab(job), 51200);
  job.workload.model.vocab = 128;
  job.strategy.tp = 1;
  EXPECT_EQ(padded_vocab(job), 128);
  job.strategy.padded_vocab = 200;
  EXPECT_EQ(padded_vocab(job), 200);
}

TEST(Job, ResolvedReadsBackToItself) {
  std::vector<nlohmann::json> documents{resolved(read(kGpt3)), resolved(small({"dp=2", "zero=1", "bucket_bytes=1 MB"})),
                                        resolved(small({"pp=2", "virtual_stages=3", "optimizer.learning_rate=3e-4"}))};
  for (const CatalogueItem& item : catalogue_items("workloads/jobs")) {
    documents.push_back(resolved(load_job(item.path, {})));
  }
  for (const nlohmann::json& document : documents) {
    EXPECT_EQ(resolved(read(document.dump())), document);
  }
}

TEST(Job, EveryReadyJobSaysWhatItIs) {
  for (const CatalogueItem& item : catalogue_items("workloads/jobs")) {
    const Job job = load_job(item.path, {});
    EXPECT_EQ(job.name, item.name);
    EXPECT_FALSE(job.description.empty()) << item.path;
  }
}

class PartFiles : public ::testing::Test {
 protected:
  PartFiles() {
    write("job.json", R"({"version": 1, "workload": "parts/workload.json", "cluster": {"system": "this-machine"},
                          "strategy": "strategy.json"})");
    write("parts/workload.json", R"({"name": "a part", "model": "tiny-gpt", "seq_len": 8, "global_batch": 4,
                                     "optimizer": "adam"})");
    write("strategy.json", R"({"dp": 2})");
  }
  void write(const std::string& name, const std::string& text) const { folder_.write(name, text); }
  std::string path(const std::string& name) const { return folder_.path(name); }

  test::TemporaryFolder folder_;
};

TEST_F(PartFiles, AreFoundBesideTheJob) {
  const Job job = load_job(path("job.json"), {"global_batch=16", "optimizer.clip=0.5", "strategy.dp=4"});
  EXPECT_EQ(job.strategy.dp, 4);
  EXPECT_EQ(job.workload.global_batch, 16);
  EXPECT_EQ(job.workload.optimizer.kind, workloads::OptimizerKind::adam);
  EXPECT_EQ(job.workload.optimizer.clip, 0.5);
}

TEST_F(PartFiles, MistakesNameTheirFile) {
  write("strategy.json", "{\n\"tpp\": 2,\n\"dp\": 0}");
  write("parts/workload.json", "{");
  const std::string message = message_of([&] { load_job(path("job.json"), {}); });
  EXPECT_NE(message.find(path("job.json") + ":1: /workload: " + path("parts/workload.json") + ":1: not valid JSON: "),
            std::string::npos)
      << message;
  EXPECT_NE(message.find(path("strategy.json") + ":3: /dp: 0 is not allowed; expected an integer from 1 to 1000000"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find(path("strategy.json") + ":2: /tpp: unknown key \"tpp\"; did you mean \"tp\"?"),
            std::string::npos)
      << message;
  EXPECT_EQ(message_of([&] { load_job(path("none.json"), {}); }), path("none.json") + ": no such file");
}

TEST_F(PartFiles, AnEmptyPathIsTheFolder) {
  EXPECT_EQ(message_of([&] { load_job(path("job.json"), {"strategy="}); }),
            "command line: /strategy: " + (std::filesystem::current_path() / "").string() +
                ": a directory; expected a JSON file");
}

TEST_F(PartFiles, AScheduleMayBeAFile) {
  write("strategy.json", R"({"pp": 2, "schedule": "my.schedule"})");
  EXPECT_EQ(message_of([&] { load_job(path("job.json"), {}); }),
            path("strategy.json") + ":1: /schedule: " + path("my.schedule") + ": no such file");
  write("my.schedule", "");
  const Job job = load_job(path("job.json"), {});
  EXPECT_EQ(job.strategy.schedule, ScheduleKind::text);
  EXPECT_EQ(job.strategy.schedule_path, path("my.schedule"));
}

TEST(Overrides, ShortKeysMeanTheOneFieldTheyEnd) {
  EXPECT_EQ(full_override("tp=4"), "strategy.tp=4");
  EXPECT_EQ(full_override("learning_rate=1e-3"), "workload.optimizer.learning_rate=1e-3");
  EXPECT_EQ(full_override("optimizer.clip=0"), "workload.optimizer.clip=0");
  EXPECT_EQ(full_override("data.path=a=b"), "workload.data.path=a=b");
  EXPECT_EQ(full_override("strategy.new=1"), "strategy.new=1");  // refused as unknown where it is read
  EXPECT_EQ(full_override("name=x"), "name=x");
  EXPECT_EQ(full_override("cluster=file.json"), "cluster=file.json");
  EXPECT_EQ(message_of([] { full_override("prefetch=1"); }),
            "command line: \"prefetch\" is ambiguous; expected one of: workload.data.prefetch, strategy.prefetch");
  EXPECT_EQ(
      message_of([] { full_override("micro_bach=1"); }),
      "command line: unknown key \"micro_bach\"; did you mean \"micro_batch\"? expected a field such as strategy.tp");
}

TEST(Overrides, MistakesAreCollectedWithTheFiles) {
  EXPECT_EQ(message_of([] {
              small({"tpp=1", "tp", "strategy.dp=0", "model.layers.x=1"});
            }),
            "command line: unknown key \"tpp\"; did you mean \"tp\"? expected a field such as strategy.tp\n"
            "command line: unknown key \"model.layers.x\"; expected a field such as strategy.tp\n"
            "override \"tp\": expected key=value, such as strategy.tp=4\n"
            "command line: /strategy/dp: 0 is not allowed; expected an integer from 1 to 1000000");
  EXPECT_EQ(message_of([] { read(kGpt3, {"layers=2"}); }),
            "override \"workload.model.layers=2\": /workload/model: \"gpt3-175b\" is not an object and has no key "
            "\"layers\"");
}

// Every leaf of the resolved document, other than the name and the figures of parts that stand in files of their own.
TEST(Overrides, KnowEveryFieldOfAResolvedJob) {
  const std::vector<std::string>& fields = job_fields();
  const nlohmann::json leaves = resolved(small()).flatten();
  for (const auto& [pointer, value] : leaves.items()) {
    std::string field = pointer.substr(1);
    std::replace(field.begin(), field.end(), '/', '.');
    const bool inside = field == "version" || field.starts_with("cluster.system.") || field.ends_with(".name") ||
                        field.starts_with("strategy.layers_per_stage.");
    EXPECT_TRUE(inside || std::find(fields.begin(), fields.end(), field) != fields.end()) << field;
  }
}

}  // namespace
}  // namespace foretrain::plan
