#include "search/error_band.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/output_file.h"

namespace foretrain::search {
namespace {

TEST(ErrorBand, Generations) {
  EXPECT_EQ(generation_of("NVIDIA A100 SXM4 80GB"), "A100");
  EXPECT_EQ(generation_of("A800-80GB"), "A100");
  EXPECT_EQ(generation_of("NVIDIA GH200 96GB"), "H100");
  EXPECT_EQ(generation_of("GB200"), "B200");
  EXPECT_EQ(generation_of("AMD EPYC"), "");
}

// Logarithms of the ratios are what counts. Three groups of A100s, each with runs at exp(-0.4), exp(-0.3) .. exp(0.5).
std::vector<Residuals> three_alike() {
  std::vector<double> ratios;
  for (int i = -4; i <= 5; ++i) {
    ratios.push_back(std::exp(0.1 * i));
  }
  return {{"a", "A100", false, ratios}, {"b", "A100", false, ratios}, {"c", "A100", false, ratios}};
}

// The weighted median is 0 (the fifth of ten). A group weighs 2, the unseen one 1: 0.8 x (6 + 1) = 5.6 of 6 lie within
// the half width. Every distance has 0.6 of weight per run of the three groups: 0 (0.6), 0.1 to 0.4 twice (5.4), 0.5
// (6.0): 0.5.
TEST(ErrorBand, GroupsOfTheSameGeneration) {
  const StepBand band = step_band(three_alike(), "A100", false);
  EXPECT_NEAR(std::log(band.low), -0.5, 1e-12);
  EXPECT_NEAR(std::log(band.high), 0.5, 1e-12);
  EXPECT_EQ(band.basis,
            "80 % of 30 published runs without experts, in 3 groups that count alike, A100s and the like 2-fold");
}

// A group of one run weighs as much as one of ten, half as much on another device: of 2 x 3 + 1 the half is 3.5, where
// the logarithm is 0.1 (0 has 3.0 before it, 0.1 takes it to 3.6). 0.8 x (7 + 1) = 6.4 of 7: distances from 0.1 are
// 0.0 (0.6), 0.1 to 0.4 twice (5.4), 0.5 (6.0), and that of the other group, 1.9 (7.0).
TEST(ErrorBand, OtherGenerationsCountHalf) {
  std::vector<Residuals> residuals = three_alike();
  residuals.push_back({"d", "B200", false, {std::exp(2.0)}});
  const StepBand band = step_band(residuals, "A100", false);
  EXPECT_NEAR(std::log(band.low), 0.1 - 1.9, 1e-12);
  EXPECT_NEAR(std::log(band.high), 2, 1e-12);
}

// One group far off does not spoil the band of many: with eight groups it holds less than the tenth that may be.
TEST(ErrorBand, OneGroupFarOffAmongMany) {
  std::vector<Residuals> residuals;
  for (const char* group : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"}) {
    residuals.push_back({group, "A100", false, {0.95, 1.0, 1.05}});
  }
  residuals.push_back({"far", "A100", false, {3, 4, 5}});
  EXPECT_LT(step_band(residuals, "A100", false).high, 1.06);
}

// Without a device alike all groups weigh 1: 0.8 x (3 + 1) = 3.2 of 3, hence the farthest, 0.5, 1.3 times.
TEST(ErrorBand, WiderWhereNothingIsAlike) {
  const StepBand band = step_band(three_alike(), "H100", false);
  EXPECT_NEAR(std::log(band.low), -0.65, 1e-12);
  EXPECT_NEAR(std::log(band.high), 0.65, 1e-12);
  EXPECT_NE(band.basis.find("none was measured on such a device"), std::string::npos) << band.basis;
  EXPECT_EQ(step_band(three_alike(), "", false).high, band.high);
}

TEST(ErrorBand, ModelsWithExpertsAreApart) {
  std::vector<Residuals> residuals = three_alike();
  EXPECT_NEAR(std::log(step_band(residuals, "A100", true).high), 0.65, 1e-12);
  EXPECT_NE(step_band(residuals, "A100", true).basis.find("without experts, in 3 groups that count alike; widened"),
            std::string::npos);
  residuals.push_back({"a", "A100", true, {std::exp(1.0), std::exp(1.2)}});
  EXPECT_NEAR(std::log(step_band(residuals, "A100", false).high), 0.5, 1e-12);
  const StepBand band = step_band(residuals, "A100", true);
  EXPECT_NEAR(std::log(band.low), 0.8, 1e-12);
  EXPECT_NEAR(std::log(band.high), 1.2, 1e-12);
}

reports::ValidationRow row(const std::string& group, double measured, double predicted = 1) {
  reports::ValidationRow r;
  r.kind = reports::RowKind::step_time;
  r.group = group;
  r.system = "A100-80GB";
  r.measured = measured;
  r.predicted = predicted;
  return r;
}

// A group's own residuals never make its band; a published group of the same name stays out too.
TEST(ErrorBand, IsNested) {
  reports::Validation v;
  v.rows = {row("own", 100, 2)};
  add_bands(v, {{"own", "A100", false, {50}}});
  EXPECT_FALSE(v.rows[0].low.has_value());
  std::vector<Residuals> published = three_alike();
  published.push_back({"own", "A100", false, {50}});
  add_bands(v, published);
  EXPECT_NEAR(*v.rows[0].low, 2 * std::exp(-0.5), 1e-12);
  EXPECT_NEAR(*v.rows[0].high, 2 * std::exp(0.5), 1e-12);
  v.rows.push_back(row("a", 1));  // in place of the published group of that name
  v.rows.push_back(row("skipped", 1));
  v.rows.back().skipped = "no measurement";
  const std::vector<Residuals> own = residuals_of(v);
  ASSERT_EQ(own.size(), 2U);
  EXPECT_EQ(own[0].ratios, std::vector<double>{50});
  add_bands(v, published);
  EXPECT_FALSE(v.rows[2].low.has_value());
}

TEST(ErrorBand, WrittenAndReadBack) {
  const std::string path = ::testing::TempDir() + "/residuals.json";
  std::vector<Residuals> residuals = three_alike();
  residuals[1].experts = true;
  write_file(path, to_json(residuals));
  const std::vector<Residuals> read = load_residuals(path);
  ASSERT_EQ(read.size(), 3U);
  EXPECT_EQ(read[2].group, "c");
  ASSERT_EQ(read[2].ratios.size(), 10U);
  EXPECT_NEAR(read[2].ratios[4], 1, 1e-12);
  EXPECT_TRUE(read[1].experts);
  EXPECT_FALSE(read[2].experts);
  write_file(path,
             R"({"schema": "foretrain.residuals/1", "groups": [{"group": "a", "generation": "", "ratios": [0]}]})");
  EXPECT_THROW(load_residuals(path), InputError);
  write_file(path, R"({"schema": "foretrain.residuals/1", "groups": []})");
  EXPECT_THROW(load_residuals(path), InputError);
  EXPECT_FALSE(load_residuals("").empty());
}

}  // namespace
}  // namespace foretrain::search
