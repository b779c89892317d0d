#include "reports/estimate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "plan/build.h"
#include "plan/work.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::reports {
namespace {

using testing::kTinyGpt;
using testing::tiny_job;

// A forecast with the figures given; breakdowns are made up: 6 ms of compute, 3 ms of bubble, 1 ms of exposed tp.
struct Case {
  plan::Job job;
  plan::PlanGraph graph;
  Estimate estimate;

  explicit Case(const std::vector<std::string>& overrides, const char* text = kTinyGpt)
      : job(tiny_job(text, overrides)), graph(plan::build(job)) {
    estimate.job = &job;
    estimate.graph = &graph;
    estimate.fit = plan::memory_fit(job, graph);
    estimate.step_time = parse_time("10 ms");
    plan::Breakdown b;
    b.compute = parse_time("6 ms");
    b.bubble = parse_time("3 ms");
    b.exposed_tp = parse_time("1 ms");
    estimate.by_role.assign(graph.roles.size(), b);
    estimate.compute_model = "roofline";
    estimate.network_model = "alpha_beta";
    estimate.error_band = {8e-3, 12e-3, "made up"};
  }
};

TEST(Estimate, EfficiencyIsTheFormula) {
  Case c({"precision=fp32", "dp=2"});
  c.job.cluster.devices_per_node = 4;
  c.job.cluster.device.peak[Dtype::fp32] = {1e9};
  const Efficiency e = efficiency(c.job, c.graph, 0.5);
  EXPECT_EQ(e.devices, 2);  // two ranks on four cores
  const double model_flops = workloads::model_flops(c.job.workload.model, 8, 16);
  EXPECT_DOUBLE_EQ(e.mfu, model_flops / (0.5 * 2 * 1e9));
  EXPECT_DOUBLE_EQ(e.hfu, plan::matmul_flops_per_step(c.graph) / (0.5 * 2 * 1e9));
  EXPECT_LT(e.mfu_causal, e.mfu);
  EXPECT_TRUE(std::isnan(e.mfu_bf16));  // only for 8 bits and fewer
}

TEST(Estimate, RanksBeyondTheDevicesShareThem) {
  Case c({"dp=8"});
  c.job.cluster.devices_per_node = 4;
  EXPECT_EQ(efficiency(c.job, c.graph, 1).devices, 4);
}

TEST(Estimate, RecomputeRaisesHardwareFlopsOnly) {
  const Case none({}), full({"recompute=full"});
  const Efficiency a = efficiency(none.job, none.graph, 1), b = efficiency(full.job, full.graph, 1);
  EXPECT_EQ(a.model_flops, b.model_flops);
  EXPECT_GT(b.hardware_flops, a.hardware_flops);
}

TEST(Estimate, HeadlineNamesThePlan) {
  const auto of = [](const std::vector<std::string>& overrides) { return headline(tiny_job(kTinyGpt, overrides)); };
  EXPECT_EQ(of({}), "inline, seq 16, batch 8 in 8 microbatches, fp64, on this-machine: one rank");
  EXPECT_EQ(of({"dp=8", "zero=1", R"(offload=["optimizer", "activations"])", "document_length=5"}),
            "inline, seq 16 in documents of 5, batch 8 in 1 microbatch, fp64, on this-machine: dp 8, zero 1, optimizer "
            "on the "
            "host, activations on the host");
  EXPECT_EQ(of({"document_length=16"}), of({}));  // one document
  EXPECT_EQ(of({"recompute=full"}), "inline, seq 16, batch 8 in 8 microbatches, fp64, on this-machine: full recompute");
}

// A parameter in 2 bytes on the device; on the host a copy, its gradient and master weight and two moments in 4 bytes
// each: 18, which the device's totals do not count.
TEST(Estimate, OffloadedStateIsOnTheHost) {
  Case c({"precision=bf16", R"(offload=["optimizer"])", "dp=2"});
  c.job.cluster.devices_per_node = 4;
  const nlohmann::ordered_json memory = to_json(c.estimate)["memory"];
  const auto host = memory["host_bytes"].get<double>(), parameters = memory["by_kind_bytes"]["parameter"].get<double>();
  EXPECT_NEAR(host, 9 * parameters, 0.01 * host);  // rounded up to 64 bytes, each
  EXPECT_EQ(memory["per_stage"][0]["host_bytes"], memory["host_bytes"]);
  EXPECT_EQ(memory["by_kind_bytes"]["optimizer_state"], 0);
  EXPECT_NE(to_text(c.estimate, false)
                .find(fmt::format("host memory: {} of a rank, at most {} of a node with 2 ranks\n",
                                  to_string(Bytes{static_cast<std::int64_t>(host)}),
                                  to_string(Bytes{static_cast<std::int64_t>(2 * host)}))),
            std::string::npos);
  const Case without({"precision=bf16"});
  EXPECT_EQ(to_json(without.estimate)["memory"]["host_bytes"], 0);
  EXPECT_EQ(to_text(without.estimate, false).find("host memory"), std::string::npos);
}

TEST(Estimate, DocumentHasTheKeysOfTheInterface) {
  const Case c({"pp=2", "dp=2"});
  const nlohmann::ordered_json d = to_json(c.estimate);
  EXPECT_EQ(d["schema"], "foretrain.estimate/1");
  EXPECT_EQ(d["fits"], true);
  EXPECT_DOUBLE_EQ(d["step_time_s"].get<double>(), 0.01);
  EXPECT_DOUBLE_EQ(d["tokens_per_s"].get<double>(), 8 * 16 / 0.01);
  for (const char* key : {"tokens_per_s_per_device", "model_flops_per_step", "model_tflops_per_device", "mfu", "hfu",
                          "breakdown_s", "memory", "error_band", "resolved"}) {
    EXPECT_TRUE(d.contains(key)) << key;
  }
  for (const char* key : {"compute", "recompute", "exposed_tp", "exposed_dp", "exposed_pp", "exposed_cp", "exposed_ep",
                          "bubble", "optimizer", "host"}) {
    EXPECT_TRUE(d["breakdown_s"].contains(key)) << key;
  }
  double sum = 0;
  for (const auto& [key, value] : d["breakdown_s"].items()) {
    sum += value.get<double>();
  }
  EXPECT_NEAR(sum, 0.01, 1e-12);
  EXPECT_EQ(d["memory"]["per_stage"].size(), 2U);
  EXPECT_EQ(d["memory"]["verdict"], "FITS");
  for (const char* key : {"allocated_bytes", "reserved_bytes", "device_visible_bytes", "missing_bytes", "fixes"}) {
    EXPECT_TRUE(d["memory"].contains(key)) << key;
  }
  std::int64_t kinds = 0;
  for (const auto& [key, value] : d["memory"]["by_kind_bytes"].items()) {
    kinds += value.get<std::int64_t>();
  }
  EXPECT_EQ(kinds, d["memory"]["peak_bytes"]);
  EXPECT_EQ(d["error_band"]["basis"], "made up");
  EXPECT_EQ(d.dump().find("NaN"), std::string::npos);
}

TEST(Estimate, ResolvedReadsBackToTheSameDocument) {
  const Case c({"tp=2"});
  const nlohmann::ordered_json d = to_json(c.estimate);
  const plan::Job again = plan::job_from_text(d["resolved"].dump(), "again", {});
  EXPECT_EQ(plan::resolved(again), plan::resolved(c.job));
}

TEST(Estimate, WhatIsUnknownIsNull) {
  Case c({});
  c.job.cluster.device.peak.clear();
  c.estimate.error_band = {NAN, NAN, "nothing known"};
  const nlohmann::ordered_json d = to_json(c.estimate);
  EXPECT_TRUE(d["mfu"].is_null());
  EXPECT_TRUE(d["mfu_bf16"].is_null());
  EXPECT_TRUE(d["error_band"]["low_s"].is_null());
  EXPECT_NE(to_text(c.estimate, false).find("nothing known"), std::string::npos);
}

TEST(Estimate, TextNamesWhatMatters) {
  const Case c({"pp=2", "recompute=full"});
  const std::string text = to_text(c.estimate, false);
  for (const char* piece : {"pp 2", "full recompute", "10.0 ms", "8.00 ms to 12.0 ms    made up", "tokens/s", "MFU",
                            "bubble", "stage 0", "stage 1", "optimizer state"}) {
    EXPECT_NE(text.find(piece), std::string::npos) << piece << "\n" << text;
  }
  EXPECT_EQ(text.find("\x1b"), std::string::npos);
  EXPECT_NE(to_text(c.estimate, true).find("\x1b["), std::string::npos);
}

TEST(Estimate, InfeasibleMessageNamesBytesAndFixes) {
  Case c({"pp=2"});
  c.job.cluster.this_machine = false;
  c.job.cluster.device.memory = plan::memory_fit(c.job, c.graph).demand - Bytes{1000};
  c.estimate.fit = plan::memory_fit(c.job, c.graph);
  c.estimate.fixes = {{"strategy.zero=1", {5000}, parse_time("20 ms")}};
  const std::string message = infeasible_message(c.estimate);
  EXPECT_NE(message.find("1.00 kB (1000 bytes) are missing"), std::string::npos) << message;
  EXPECT_NE(message.find("strategy.zero=1 (5.00 kB, 20.0 ms per step)"), std::string::npos) << message;
  const nlohmann::ordered_json d = to_json(c.estimate);
  EXPECT_EQ(d["fits"], false);
  EXPECT_EQ(d["memory"]["verdict"], "OOM");
  EXPECT_EQ(d["memory"]["missing_bytes"], 1000);
  EXPECT_EQ(d["memory"]["fixes"][0]["change"], "strategy.zero=1");
  EXPECT_DOUBLE_EQ(d["memory"]["fixes"][0]["step_time_s"].get<double>(), 0.02);
}

TEST(Estimate, TightFits) {
  Case c({});
  c.job.cluster.this_machine = false;
  c.estimate.fit = plan::memory_fit(c.job, c.graph);
  c.estimate.fit.verdict = plan::Verdict::tight;
  EXPECT_EQ(to_json(c.estimate)["fits"], true);
  EXPECT_EQ(to_json(c.estimate)["memory"]["verdict"], "TIGHT");
  EXPECT_NE(to_text(c.estimate, false).find("tight: fits where the allocator gives"), std::string::npos);
}

}  // namespace
}  // namespace foretrain::reports
