#include "reports/run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/tiny_jobs.h"

namespace foretrain::reports {
namespace {

TEST(Quantile, InterpolatesBetweenNeighbours) {
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
  EXPECT_EQ(quantile({3}, 0.9), 3);
  EXPECT_EQ(quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(quantile({1, 2}, 0.5), 1.5);
  EXPECT_DOUBLE_EQ(quantile({0, 10, 20, 30, 40}, 0.1), 4);  // 0.4 of the way from the first to the second
  EXPECT_EQ(quantile({5, 1}, 1), 5);
}

RunReport sample(const plan::Job& job) {
  RunReport r;
  r.job = &job;
  r.ranks = 2;
  r.step_seconds = {0.4, 0.2, 0.2};
  r.loss = {4.1, 3.9, NAN};
  r.grad_norm = {1, 2, 3};
  r.arena = {1000};
  r.data = "built-in text";
  return r;
}

TEST(Run, Document) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt);
  const nlohmann::ordered_json d = to_json(sample(job));
  EXPECT_EQ(d["schema"], "foretrain.run/1");
  EXPECT_EQ(d["ranks"], 2);
  EXPECT_EQ(d["steps"], 3);
  EXPECT_EQ(d["first_step"], 0);
  EXPECT_EQ(d["step_time_s"]["median"], 0.2);
  EXPECT_DOUBLE_EQ(d["tokens_per_s"].get<double>(), 8 * 16 / 0.2);
  EXPECT_EQ(d["loss"][0], 4.1);
  EXPECT_TRUE(d["loss"][2].is_null());
  EXPECT_TRUE(d["validation_loss"].is_null());
  EXPECT_TRUE(d["timeline"].is_null());
  EXPECT_EQ(d["peak_bytes"], 1000);
  EXPECT_FALSE(d.contains("verify"));
}

TEST(Run, VerificationAndSample) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt);
  RunReport r = sample(job);
  r.verification = Verification{1e-9, 2e-7, 1e-6, 1e-5, 3, true, "layers.0.qkv"};
  r.sample = "To be";
  r.timeline_path = "t.json";
  const nlohmann::ordered_json d = to_json(r);
  EXPECT_EQ(d["verify"]["max_rel_loss"], 1e-9);
  EXPECT_EQ(d["verify"]["max_rel_grad"], 2e-7);
  EXPECT_EQ(d["verify"]["tolerance"], 1e-6);
  EXPECT_EQ(d["verify"]["passed"], true);
  EXPECT_EQ(d["sample"], "To be");
  const std::string text = to_text(r, false);
  for (const char* piece : {"agrees", "layers.0.qkv", "To be", "t.json", "200 ms"}) {
    EXPECT_NE(text.find(piece), std::string::npos) << piece << "\n" << text;
  }
}

// Rank 2 was killed in its second step of three; all of ranks 0 and 1 came.
TEST(Run, WhoWasLost) {
  const plan::Job job = testing::tiny_job(
      testing::kTinyGpt, {"dp=4", "data_parallel=parameter_server", "staleness=unbounded", "elastic=true"});
  RunReport r = sample(job);
  EXPECT_EQ(to_json(r)["lost"], nlohmann::ordered_json::array());
  EXPECT_EQ(to_text(r, false).find("lost"), std::string::npos);
  r.first_step = 10;
  r.lost = {{2, "node7", 11}, {3, "node7", 12}};
  r.updates = 9;
  const nlohmann::ordered_json d = to_json(r);
  EXPECT_EQ(d["lost"].dump(), R"([{"rank":2,"host":"node7","updates":11},{"rank":3,"host":"node7","updates":12}])");
  EXPECT_EQ(d["updates"].dump(), R"({"made":9,"planned":12})");
  const std::string text = to_text(r, false);
  for (const char* piece :
       {"rank 2 on node7  after 11 of 13 updates; the others went on", "rank 3 on node7", "9 of 12"}) {
    EXPECT_NE(text.find(piece), std::string::npos) << piece << "\n" << text;
  }
}

TEST(Run, LongRunsShowTenSteps) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt);
  RunReport r = sample(job);
  r.loss.assign(1000, 2.5);
  r.grad_norm.assign(1000, 1.0);
  r.step_seconds.assign(1000, 0.1);
  const std::string text = to_text(r, false);
  EXPECT_NE(text.find("999  2.5000"), std::string::npos) << text;
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 20);
}

}  // namespace
}  // namespace foretrain::reports
