#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "plan/build.h"
#include "reports/validation_figures.h"
#include "search/framework_costs.h"
#include "search/framework_traffic.h"
#include "search/training_forecast.h"
#include "search/validate.h"
#include "topologies/profile.h"

namespace foretrain::search {
namespace {

using nlohmann::json;

const TrainingRules& rules() {
  static const TrainingRules loaded = load_training_rules("");
  return loaded;
}

json row_22b() {
  return json::parse(R"({"id": "22b", "group": "k",
    "model": {"name": "GPT 22B", "layers": 48, "hidden": 6144, "heads": 64, "ffn_hidden": 24576, "vocab": 51200,
              "seq_len": 2048, "gated_mlp": false, "tied_embeddings": true, "moe": null},
    "cluster": {"gpus": 8, "gpus_per_node": 8, "inter_node_gbps": 1600, "gpu_family": "A100-80GB"},
    "plan": {"dp": 1, "tp": 8, "pp": 1, "micro_batch": 4, "global_batch": 4, "recompute": "full",
             "precision": "fp16 mixed", "framework": "Megatron-LM 2022"},
    "measured": {"step_time_s": 1.42}, "quality": "exact config stated", "flags": []})");
}
TrainingRow read(const json& object) {
  Mistakes mistakes;
  TrainingRow row = read_training_row(RowReader(object, "rows:1", mistakes));
  mistakes.throw_if_any();
  return row;
}
Reading job_of(const json& object) {
  return read_job(read(object), rules());
}
const ReadField& field(const Reading& reading, const std::string& path) {
  const auto found =
      std::find_if(reading.fields.begin(), reading.fields.end(), [&](const ReadField& f) { return f.path == path; });
  CHECK(found != reading.fields.end(), "no field {}", path);
  return *found;
}

TEST(TrainingRow, ReadsWhatIsStatedAndNothingElse) {
  json object = row_22b();
  const TrainingRow row = read(object);
  EXPECT_EQ(row.id, "22b");
  EXPECT_TRUE(row.exact);
  EXPECT_FALSE(row.flagged);
  EXPECT_EQ(row.plan.tp, 8);
  EXPECT_FALSE(row.plan.zero_stage.has_value());
  EXPECT_FALSE(row.model.moe);
  EXPECT_EQ(row.step_time_s, 1.42);
  EXPECT_EQ(row.derived_by, "");
  object["measured"] = json::object();
  object["derived"] = {{"step_time_s", 2}, {"method", "tokens over tokens/s"}};
  object["flags"] = {"DP is garbled"};
  object["plan"]["vpp"] = "one layer per chunk";
  object["cluster"]["inter_node_gbps"] = "two rails";
  const TrainingRow other = read(object);
  EXPECT_EQ(other.step_time_s, 2);
  EXPECT_EQ(other.derived_by, "tokens over tokens/s");
  EXPECT_TRUE(other.flagged);
  EXPECT_EQ(other.plan.vpp_words, "one layer per chunk");
  EXPECT_FALSE(other.cluster.inter_node_gbps.has_value());
  const auto rate = [&](json words) {
    object["cluster"]["inter_node_gbps"] = std::move(words);
    return read(object).cluster.inter_node_gbps;
  };
  EXPECT_EQ(rate("200 Gb/s HDR InfiniBand"), 200);
  EXPECT_EQ(rate(12.5), 12.5);
  EXPECT_EQ(rate("8 x 200 Gb/s"), std::nullopt);
  EXPECT_EQ(rate("1e999 Gb/s"), std::nullopt);
  EXPECT_EQ(rate("- Gb/s"), std::nullopt);
}

TEST(RowReader, RefusesWhatIsNoRow) {
  const auto mistake = [](const std::string& line) {
    Mistakes mistakes;
    const json object = parse_row(line, "f:7", mistakes);
    return mistakes.empty() ? std::string() : mistakes.messages().front();
  };
  EXPECT_EQ(mistake(R"({"a": {"b": [1]}})"), "");
  EXPECT_EQ(mistake("[1]"), "f:7: expected one JSON object on the line");
  EXPECT_EQ(mistake(R"({"a": 1)"), "f:7: expected one JSON object on the line");
  EXPECT_EQ(mistake(R"({"a": 1, "b": {"c": 1, "d": 2, "c": 3}})"), "f:7: the key \"c\" stands twice in an object");
  EXPECT_EQ(mistake(R"({"a": {"c": 1}, "b": {"c": 1}})"), "");
  EXPECT_EQ(mistake(R"({"a":)" + std::string(100000, '[')), "f:7: nested deeper than 32 levels");
}

// The row states tp and full recompute; its framework's rules say which attention; the job file's default is 1F1B's one
// chunk.
TEST(TrainingJob, EveryFieldSaysWhereItComesFrom) {
  const Reading reading = job_of(row_22b());
  ASSERT_TRUE(reading.job.has_value());
  EXPECT_EQ(field(reading, "strategy.tp").origin, Origin::stated);
  EXPECT_EQ(field(reading, "strategy.recompute").value, "full");
  EXPECT_EQ(field(reading, "workload.attention").origin, Origin::rule);
  EXPECT_EQ(field(reading, "workload.attention").value, "fused_softmax");
  EXPECT_NE(field(reading, "workload.attention").source, "");
  EXPECT_EQ(field(reading, "strategy.virtual_stages").origin, Origin::default_value);
  EXPECT_EQ(field(reading, "workload.precision").value, "fp16");
  EXPECT_EQ(reading.job->cluster.nodes, 1);
  EXPECT_TRUE(reading.notes.empty());
}

// No field of a job may depend on what was measured.
TEST(TrainingJob, DoesNotKnowTheAnswer) {
  json object = row_22b();
  const auto text = [](const Reading& r) {
    std::string all;
    for (const ReadField& f : r.fields) {
      all += f.path + "=" + f.value + "\n";
    }
    return all;
  };
  const std::string before = text(job_of(object));
  object["measured"] = {{"step_time_s", 99}, {"memory_gib", 3}, {"mfu", 0.1}};
  EXPECT_EQ(text(job_of(object)), before);
  object["measured"] = {{"oom", true}};
  EXPECT_EQ(text(job_of(object)), before);
}

// Megatron-LM of 2021 waits at each pass. 16 heads over tp 8 are 2 of one sequence and 4 of two: the kernel that fuses
// the softmax takes fours.
TEST(TrainingJob, HostsAndKernelsOfAFramework) {
  json object = row_22b();
  EXPECT_FALSE(job_of(object).job->cluster.profile->sharing.waits_each_pass);
  object["plan"]["framework"] = "Megatron-LM (April 2021)";
  EXPECT_TRUE(job_of(object).job->cluster.profile->sharing.waits_each_pass);
  object["plan"]["framework"] = "Megatron-DeepSpeed";
  object["model"]["heads"] = 16;
  object["plan"]["micro_batch"] = 2;
  EXPECT_EQ(field(job_of(object), "workload.attention").value, "fused_softmax");
  object["plan"]["micro_batch"] = 1;
  EXPECT_EQ(field(job_of(object), "workload.attention").value, "unfused");
}

TEST(TrainingJob, ContextParallelism) {
  json object = row_22b();
  object["plan"]["tp"] = 4;
  object["plan"]["cp"] = 2;
  object["plan"]["cp_comm"] = "a2a";
  const Reading all_to_all = job_of(object);
  ASSERT_TRUE(all_to_all.job) << all_to_all.skipped.value_or("");
  EXPECT_EQ(all_to_all.job->strategy.cp, 2);
  EXPECT_EQ(all_to_all.job->strategy.cp_kind, plan::CpKind::all_to_all);
  object["plan"].erase("cp_comm");  // a ring, which the row's unfused attention has not
  EXPECT_EQ(job_of(object).skipped.value_or("").substr(0, 49), "no such job: /strategy/cp_kind: a ring needs atte");
}

TEST(TrainingJob, LatentAttention) {
  json object = row_22b();
  object["model"]["gated_mlp"] = true;
  object["model"]["moe"] = {{"experts", 8},   {"topk", 2},      {"moe_ffn", 1024}, {"mla", true}, {"q_lora", 1536},
                            {"kv_lora", 512}, {"qk_nope", 128}, {"qk_rope", 64},   {"v_head", 96}};
  const Reading stated = job_of(object);
  ASSERT_TRUE(stated.job) << stated.skipped.value_or("");
  const workloads::Mla& mla = stated.job->workload.model.mla;
  EXPECT_EQ(mla.q_rank, 1536);
  EXPECT_EQ(mla.kv_rank, 512);
  EXPECT_EQ(mla.v_dim, 96);
  EXPECT_EQ(stated.job->workload.model.head_dim, 128 + 64);
  EXPECT_EQ(field(stated, "workload.model.mla.kv_rank").origin, Origin::stated);

  object["model"]["moe"] = {{"experts", 8}, {"topk", 2}, {"moe_ffn", 1024}, {"mla", true}};
  EXPECT_EQ(job_of(object).skipped.value_or(""),
            "not stated: workload.model.mla.kv_rank, workload.model.mla.nope_dim, workload.model.mla.rope_dim, "
            "workload.model.mla.v_dim");
  object["model"]["name"] = "DeepSeek-V3 cut to 48 layers";  // whose shape is published
  const Reading ruled = job_of(object);
  ASSERT_TRUE(ruled.job) << ruled.skipped.value_or("");
  EXPECT_EQ(ruled.job->workload.model.mla.rope_dim, 64);
  EXPECT_EQ(field(ruled, "workload.model.mla").origin, Origin::rule);
}

TEST(TrainingJob, LastStageHasTheRest) {
  json object = row_22b();
  object["model"].update({{"name", "Kimi-K2"}, {"layers", 61}, {"gated_mlp", true}});
  object["model"]["moe"] = {{"experts", 8}, {"topk", 2}, {"moe_ffn", 1024}, {"mla", true}};
  object["cluster"]["gpus"] = 64;
  object["plan"].update({{"dp", 3}, {"tp", 2}, {"pp", 8}, {"ep", 4}, {"global_batch", 256}, {"recompute", nullptr}});
  object["plan"]["framework"] = "Megatron-Bridge 0.4.2";
  object["plan"]["overlap"] = "none for EP all-to-all";
  const Reading plain = job_of(object);
  ASSERT_TRUE(plain.job) << plain.skipped.value_or("");
  EXPECT_EQ(plain.job->strategy.layers_per_stage, (std::vector<std::int64_t>{8, 8, 8, 8, 8, 8, 8, 5}));
  EXPECT_EQ(plain.job->strategy.dp, 4);  // 64 devices / (2 · 8), whatever the row says
  EXPECT_EQ(plain.job->strategy.recompute, plan::Recompute::full);
  object["plan"]["overlap"] = "EP all-to-all overlap 1F1B";  // which needs two chunks, and no recomputation
  const Reading overlapped = job_of(object);
  ASSERT_TRUE(overlapped.job) << overlapped.skipped.value_or("");
  EXPECT_EQ(overlapped.job->strategy.layers_per_stage.size(), 16U);
  EXPECT_EQ(overlapped.job->strategy.layers_per_stage.back(), 1);
  EXPECT_EQ(overlapped.job->strategy.recompute, plan::Recompute::none);
  EXPECT_TRUE(overlapped.job->strategy.overlap_ep);
}

TEST(TrainingJob, ActivationsGoToTheHostWhereTheRowSaysSo) {
  json object = row_22b();
  object["plan"]["activation_cpu_offload"] = true;
  const Reading offloaded = job_of(object);
  ASSERT_TRUE(offloaded.job) << offloaded.skipped.value_or("");
  EXPECT_TRUE(offloaded.job->strategy.offload_activations);
  EXPECT_EQ(field(offloaded, "strategy.offload").origin, Origin::stated);
}

TEST(TrainingJob, WhatThePlanGraphCannotSayIsSkippedOrNamed) {
  const auto skipped = [](const char* part, const char* key, json value) {
    json object = row_22b();
    object[part][key] = std::move(value);
    return job_of(object).skipped.value_or("");
  };
  EXPECT_EQ(skipped("cluster", "gpu_family", "Z100"), "no system is known for \"Z100\"");
  EXPECT_EQ(skipped("cluster", "gpus", nullptr), "the number of devices is not stated");
  EXPECT_EQ(skipped("cluster", "gpus", 12), "the devices are no whole number of nodes");
  EXPECT_EQ(skipped("plan", "tp", nullptr), "not stated: strategy.tp");
  EXPECT_EQ(skipped("plan", "tp", 4).substr(0, 13), "no such job: ");
  EXPECT_EQ(skipped("plan", "schedule", "Chimera"), "not in the plan graph: the pipeline's schedule");
  json object = row_22b();
  object["plan"]["fsdp"] = true;
  const Reading reading = job_of(object);
  ASSERT_TRUE(reading.job.has_value());
  EXPECT_EQ(reading.job->strategy.zero, 3);
  EXPECT_TRUE(reading.notes.empty());
}

TEST(TrainingJob, Sharding) {
  json object = row_22b();
  object["cluster"]["gpus"] = 64;
  object["plan"].update({{"tp", 1},
                         {"pp", 1},
                         {"dp", 64},
                         {"micro_batch", 1},
                         {"global_batch", 64},
                         {"zero_stage", 1},
                         {"zero1_group", 8}});
  const Reading groups = job_of(object);
  ASSERT_TRUE(groups.job.has_value()) << *groups.skipped;
  EXPECT_EQ(groups.job->strategy.zero, 1);
  EXPECT_EQ(groups.job->strategy.shard, 8);
  object["plan"]["zero1_group"] = 64;
  EXPECT_EQ(job_of(object).job->strategy.shard, 0);
  object["plan"]["zero_stage"] = 2;
  EXPECT_EQ(job_of(object).job->strategy.zero, 2);
  // Gradients reduced as they were computed.
  object["plan"].update(
      {{"fsdp", "FULL_SHARD"}, {"fsdp_mixed_precision", "PURE"}, {"framework", "PyTorch FSDP / Composer"}});
  const Reading pure = job_of(object);
  EXPECT_EQ(pure.job->strategy.zero, 3);
  EXPECT_EQ(pure.job->workload.precision.gradient, Dtype::bf16);
  // In a pipeline torchtitan keeps parameters and gradients whole, and has as many microbatches as stages.
  object["plan"].update(
      {{"fsdp", "FSDP2"}, {"framework", "torchtitan"}, {"dp", 8}, {"pp", 8}, {"micro_batch", nullptr}});
  const Reading pipeline = job_of(object);
  ASSERT_TRUE(pipeline.job.has_value()) << *pipeline.skipped;
  EXPECT_EQ(pipeline.job->strategy.zero, 1);
  EXPECT_EQ(pipeline.job->strategy.micro_batch, 1);
  object["plan"]["global_batch"] = 256;
  EXPECT_EQ(job_of(object).job->strategy.micro_batch, 4);
}

// 46 layers on 8 stages with a layer per chunk: 48 chunks, 6 each, the first and the last without a layer. 48 layers
// leave no such place.
TEST(TrainingJob, Schedules) {
  json object = row_22b();
  object["model"]["layers"] = 46;
  object["plan"].update(
      {{"tp", 1}, {"pp", 8}, {"global_batch", 64}, {"vpp", "1 layer per chunk"}, {"schedule", "1F1B-I"}});
  const Reading ends = job_of(object);
  ASSERT_TRUE(ends.job.has_value()) << *ends.skipped;
  EXPECT_EQ(ends.job->strategy.virtual_stages, 6);
  ASSERT_EQ(ends.job->strategy.layers_per_stage.size(), 48U);
  EXPECT_EQ(ends.job->strategy.layers_per_stage[0], 0);
  EXPECT_EQ(ends.job->strategy.layers_per_stage[47], 0);
  object["model"]["layers"] = 48;
  EXPECT_EQ(job_of(object).job->strategy.virtual_stages, 6);
  EXPECT_TRUE(job_of(object).job->strategy.layers_per_stage.empty());
  object["plan"]["vpp"] = nullptr;
  object["plan"]["schedule"] = "ZB-2p";
  const Reading zero_bubble = job_of(object);
  ASSERT_TRUE(zero_bubble.job.has_value()) << *zero_bubble.skipped;
  EXPECT_EQ(field(zero_bubble, "strategy.schedule").value, "zb_h2");
  EXPECT_EQ(zero_bubble.notes.size(), 1U);
}

// 400 Gb/s of a node with 8 devices are 50 GB/s over 8: 6.25 GB/s a device; per GPU they are 50 GB/s.
TEST(TrainingJob, LinksOfTheRow) {
  json object = row_22b();
  object["cluster"]["gpus"] = 16;
  object["plan"]["dp"] = 2;
  object["plan"]["global_batch"] = 8;
  object["cluster"]["inter_node_gbps"] = 400;
  Reading reading = job_of(object);
  ASSERT_TRUE(reading.job.has_value()) << *reading.skipped;
  EXPECT_NEAR(reading.job->cluster.inter.bandwidth.value, 6.25e9, 1);
  EXPECT_EQ(reading.job->cluster.nodes, 2);
  object["cluster"]["inter_node_scope"] = "per GPU";
  reading = job_of(object);
  EXPECT_NEAR(reading.job->cluster.inter.bandwidth.value, 50e9, 1);
  // Where a rule knows two adapters in a node, a rate without its scope is one's: 2 x 25 GB/s over 8.
  object["cluster"]["inter_node_gbps"] = "200 Gb/s HDR InfiniBand";
  object["cluster"]["inter_node_scope"] = nullptr;
  object["plan"]["framework"] = "AA-Scaling";
  EXPECT_NEAR(job_of(object).job->cluster.inter.bandwidth.value, 6.25e9, 1);
  object["cluster"]["inter_node_scope"] = "per node";
  EXPECT_NEAR(job_of(object).job->cluster.inter.bandwidth.value, 3.125e9, 1);
}

// norm at 0.6 of the memory's speed, its forward at 0.8: five times the cost leave 0.12 and 0.16. rotary had no figure
// and gets 1/5; what a cost names below a figure starts from that.
TEST(FrameworkCosts, ScaleAKindAndAllBelowIt) {
  auto plain = std::make_shared<topologies::Profile>();
  plain->has_roofline = true;
  plain->roofline.memory_by_kind = {{"norm", {0.6, ""}}, {"norm.rmsnorm.forward", {0.8, ""}}, {"attention", {0.5, ""}}};
  plain->roofline.attention_forward["flash"].value = plain->roofline.attention_backward["flash"].value = 0.4;
  EXPECT_EQ(with_costs(plain, {}), plain);
  EXPECT_EQ(with_costs(nullptr, {{"norm", 2}}), nullptr);
  const auto costly =
      with_costs(plain, {{"norm", 5}, {"rotary", 5}, {"attention.flash", 2}, {"attention.scale_mask_softmax", 2}});
  const auto& kinds = costly->roofline.memory_by_kind;
  EXPECT_NEAR(kinds.at("norm").value, 0.12, 1e-12);
  EXPECT_NEAR(kinds.at("norm.rmsnorm.forward").value, 0.16, 1e-12);
  EXPECT_NEAR(kinds.at("rotary").value, 0.2, 1e-12);
  EXPECT_NEAR(kinds.at("attention").value, 0.5, 1e-12);
  EXPECT_NEAR(kinds.at("attention.scale_mask_softmax").value, 0.25, 1e-12);
  EXPECT_NEAR(costly->roofline.attention_forward.at("flash").value, 0.2, 1e-12);
  EXPECT_NEAR(costly->roofline.attention_backward.at("flash").value, 0.2, 1e-12);
  EXPECT_EQ(plain->roofline.memory_by_kind.size(), 3U);
}

TEST(TrainingRules, EachHasASource) {
  for (const FrameworkRules& f : rules().frameworks) {
    for (const FieldRule& rule : f.rules) {
      EXPECT_GT(rule.source.size(), 10U) << f.name << " " << rule.field;
    }
  }
}

TEST(TrainingRules, NameTheGroupsThatAConstantWasFittedTo) {
  EXPECT_TRUE(rules().is_fitted("simumax_b200"));
  EXPECT_FALSE(rules().is_fitted("colm_layouts"));
  json object = row_22b();
  EXPECT_FALSE(forecast_all({read(object)}, rules())[0].fitted);
  object["group"] = "simumax_b200";
  EXPECT_TRUE(forecast_all({read(object)}, rules())[0].fitted);
}

TEST(TrainingForecast, OrderOfRowsAndThreadsDoNotMatter) {
  std::vector<TrainingRow> rows;
  for (int tp = 1; tp <= 8; tp *= 2) {
    json object = row_22b();
    object["id"] = std::to_string(tp);
    object["plan"]["tp"] = tp;
    object["cluster"]["gpus"] = tp;
    rows.push_back(read(object));
  }
  const auto forward = forecast_all(rows, rules());
  std::reverse(rows.begin(), rows.end());
  const auto backward = forecast_all(rows, rules());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(forward[i].id, rows[rows.size() - 1 - i].id);
    EXPECT_EQ(forward[i].predicted, backward[rows.size() - 1 - i].predicted);
    EXPECT_EQ(forward[i].predicted_memory, backward[rows.size() - 1 - i].predicted_memory);
  }
  EXPECT_TRUE(forecast_all({}, rules()).empty());
}

// More devices for the parameters of one layer hold less each; a slow network makes the gathers show.
TEST(TrainingForecast, FullySharded) {
  json object = row_22b();
  object["cluster"]["gpus"] = 64;
  object["plan"].update({{"dp", 64}, {"tp", 1}, {"global_batch", 64}, {"micro_batch", 1}, {"fsdp", "ZeRO-3"}});
  const auto forecast_of = [](const json& o) { return forecast(job_of(o)); };
  const TrainingForecast sharded = forecast_of(object);
  json whole = object;
  whole["plan"].erase("fsdp");
  EXPECT_LT(sharded.memory_bytes, forecast_of(whole).memory_bytes);
  object["cluster"]["inter_node_gbps"] = 10;
  const TrainingForecast slow = forecast_of(object);
  EXPECT_GT(slow.step_seconds, sharded.step_seconds);
  // Two gathers of 22e9 parameters of two bytes and a reduction of four each, over 7/8 of 8 devices' 10 Gb/s: no less
  // than 22e9 x 8 / 1.25e9 s.
  EXPECT_GT(slow.step_seconds, 22e9 * 8 / 1.25e9);
}

// A read for the norm and, over several ranks, a read and a write for the factor.
TEST(TrainingForecast, PassesOverGradients) {
  Reading reading = job_of(row_22b());
  const plan::PlanGraph graph = plan::build(*reading.job);
  EXPECT_EQ(more_gradient_seconds(reading, graph), 0);
  reading.checks_gradients = true;
  const topologies::Cluster& c = reading.job->cluster;
  const double unit =
      static_cast<double>(graph.roles[0].memory.by_kind[static_cast<std::size_t>(plan::BufferKind::gradient)].value) /
      (c.device.memory_bandwidth.value * c.profile->roofline.memory.value);
  // 22 billion gradients of four bytes over 8 ranks are 11 GB, at 0.88 of 2 TB/s 6 ms.
  EXPECT_NEAR(unit, 6e-3, 1e-3);
  EXPECT_DOUBLE_EQ(more_gradient_seconds(reading, graph), unit);
  reading.job->strategy.dp = 2;
  EXPECT_DOUBLE_EQ(more_gradient_seconds(reading, graph), 3 * unit);
  reading.job->strategy.zero = 2;
  EXPECT_EQ(more_gradient_seconds(reading, graph), 0);
}

// Bytes per parameter and microbatch, gradients reduced in four bytes each: FSDP1 moves 4 to put gradients together, 6
// to cast, 8 to divide them; FSDP2 4 out of each gather and 6 into the reduction. With gradients in two bytes 8 and 12.
TEST(TrainingForecast, CopiesAroundGathersAndReductions) {
  json object = row_22b();
  object["plan"].update({{"dp", 8}, {"tp", 1}, {"global_batch", 24}, {"micro_batch", 1}, {"fsdp", "FULL_SHARD"}});
  Reading reading = job_of(object);
  EXPECT_EQ(reading.sharding, Sharding::other);
  EXPECT_EQ(more_sharding_seconds(reading), 0);
  const plan::Job& job = *reading.job;
  const double unit = 3 * static_cast<double>(workloads::total_parameters(job.workload.model)) /
                      (job.cluster.device.memory_bandwidth.value * job.cluster.profile->roofline.memory.value);
  reading.sharding = Sharding::fsdp1;
  EXPECT_NEAR(more_sharding_seconds(reading), 18 * unit, 1e-9);
  reading.sharding = Sharding::fsdp2;
  EXPECT_NEAR(more_sharding_seconds(reading), 14 * unit, 1e-9);
  reading.job->workload.precision.gradient = reading.job->workload.precision.parameter;
  EXPECT_NEAR(more_sharding_seconds(reading), 12 * unit, 1e-9);
  reading.sharding = Sharding::fsdp1;
  EXPECT_NEAR(more_sharding_seconds(reading), 8 * unit, 1e-9);
  reading.job->strategy.zero = 2;
  EXPECT_EQ(more_sharding_seconds(reading), 0);
  object["plan"]["framework"] = "PyTorch FSDP / Composer";
  EXPECT_EQ(job_of(object).sharding, Sharding::fsdp1);
  object["plan"].erase("fsdp");
  EXPECT_EQ(job_of(object).sharding, Sharding::other);
}

// 4 x 2048 rows of 51200 / 8 logits with 10 bytes in place of 2 are 419 MB more, where the peak is at the loss; else
// less. Gradients in 2 bytes instead of 4 take half.
TEST(TrainingForecast, MemoryOfTheFramework) {
  Reading reading = job_of(row_22b());
  EXPECT_DOUBLE_EQ(reading.held.times.at("logits"), 5);
  const TrainingForecast with = forecast(reading);
  reading.held.times.erase("logits");
  const TrainingForecast without = forecast(reading);
  const auto held = [](const TrainingForecast& f) { return static_cast<double>(f.fit.device().held.allocated.value); };
  EXPECT_GE(held(with), held(without));
  EXPECT_LE(held(with), held(without) + 4 * 2048.0 * 51200 / 8 * 8);
  reading.held.times["layer.gradients"] = 0.5;
  const auto bytes = [](const TrainingForecast& f) {
    return static_cast<double>(f.fit.device().held.by_kind[static_cast<std::size_t>(plan::HeldKind::gradients)].value);
  };
  const TrainingForecast halved = forecast(reading);
  const double of_layers = 48 * 4.0 * 12 * 6144 * 6144 / 8;  // 12 h^2 a layer, over 8 ranks; biases and norms beside
  EXPECT_NEAR(bytes(without) - bytes(halved), of_layers / 2, of_layers / 100);
}

// Guards what was reached (reports/validation/training.txt has all groups; scripts/validation writes it).
TEST(Published, TrainingRuns) {
  // Two steps of 22 billion parameters, and a sweep of fully sharded ones: the large ones take seconds with sanitizers.
  const auto of_rows_with = [](const char* part) {
    std::ifstream in("reports/validation/training.jsonl");
    std::stringstream some;
    for (std::string line; std::getline(in, line);) {
      some << (line.find(part) != std::string::npos ? line + "\n" : "");
    }
    return validate(some, part);
  };
  const auto rows_of = [](const reports::Validation& v) {
    reports::ValidationRows rows;
    for (const reports::ValidationRow& r : v.rows) {
      EXPECT_TRUE(r.skipped || (std::isfinite(r.error()) && *r.predicted > 0)) << r.id;
      EXPECT_TRUE(r.skipped || (r.low && *r.low < *r.high)) << r.id;
      rows.push_back(&r);
    }
    return rows;
  };
  const reports::Validation korthikanti = of_rows_with("\"korthikanti-22b"),
                            mpt = of_rows_with("\"llm_foundry_mpt_a100_40\"");
  const reports::ErrorFigures k = reports::time_figures(rows_of(korthikanti)).front().used;
  EXPECT_EQ(k.rows, 2);
  EXPECT_LT(k.worst, 0.08);
  const reports::GroupFigures m = reports::time_figures(rows_of(mpt)).front();
  EXPECT_EQ(m.exact.rows, 78);
  EXPECT_LT(m.exact.mean, 0.08);
  EXPECT_GT(*reports::ranking_figures(rows_of(mpt)).front().spearman, 0.95);
}

}  // namespace
}  // namespace foretrain::search
