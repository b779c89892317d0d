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

// Ten runs at 1.1 .. 2.0 in three groups of A100s, each the same: the 10th and 90th percentiles are 1.1 and 1.9.
std::vector<Residuals> three_alike() {
  std::vector<double> ratios;
  for (int i = 1; i <= 10; ++i) {
    ratios.push_back(1 + 0.1 * i);
  }
  return {{"a", "A100", ratios}, {"b", "A100", ratios}, {"c", "A100", ratios}};
}

TEST(ErrorBand, OfTheSameGenerationWhereThreeGroupsAre) {
  std::vector<Residuals> residuals = three_alike();
  residuals.push_back({"d", "B200", {9, 9, 9}});
  const StepBand band = step_band(residuals, "A100");
  EXPECT_NEAR(band.low, 1.1, 1e-12);
  EXPECT_NEAR(band.high, 1.9, 1e-12);
  EXPECT_EQ(band.basis, "80 % of 30 published runs, in 3 groups that count alike, on A100s and the like");
}

// A group of one run weighs as much as one of ten: of four groups the one at 9 holds a quarter of the weight, so that
// the 90th percentile is 9; the 10th lies at a weight of 0.4, where 1.1 has 3 x 0.1 and 1.2 the next 0.3. Widened:
// the logarithms' distance from their middle grows by 1.3.
TEST(ErrorBand, OfAllDevicesAndWiderWhereNothingIsAlike) {
  std::vector<Residuals> residuals = three_alike();
  residuals.push_back({"d", "B200", {9}});
  const StepBand band = step_band(residuals, "H100");
  const double low = std::log(1.2), high = std::log(9.0), middle = (low + high) / 2, half = 1.3 * (high - low) / 2;
  EXPECT_NEAR(band.low, std::exp(middle - half), 1e-9);
  EXPECT_NEAR(band.high, std::exp(middle + half), 1e-9);
  EXPECT_NE(band.basis.find("fewer than 3 groups"), std::string::npos) << band.basis;
  EXPECT_EQ(step_band(residuals, "").high, band.high);
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
  add_bands(v, {{"own", "A100", {50}}});
  EXPECT_FALSE(v.rows[0].low.has_value());
  std::vector<Residuals> published = three_alike();
  published.push_back({"own", "A100", {50}});
  add_bands(v, published);
  EXPECT_NEAR(*v.rows[0].low, 2.2, 1e-12);
  EXPECT_NEAR(*v.rows[0].high, 3.8, 1e-12);
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
  write_file(path, to_json(three_alike()));
  const std::vector<Residuals> read = load_residuals(path);
  ASSERT_EQ(read.size(), 3U);
  EXPECT_EQ(read[2].group, "c");
  ASSERT_EQ(read[2].ratios.size(), 10U);
  EXPECT_NEAR(read[2].ratios[2], 1.3, 1e-12);
  write_file(path,
             R"({"schema": "foretrain.residuals/1", "groups": [{"group": "a", "generation": "", "ratios": [0]}]})");
  EXPECT_THROW(load_residuals(path), InputError);
  write_file(path, R"({"schema": "foretrain.residuals/1", "groups": []})");
  EXPECT_THROW(load_residuals(path), InputError);
  EXPECT_FALSE(load_residuals("").empty());
}

}  // namespace
}  // namespace foretrain::search
