#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "reports/scatter.h"
#include "reports/validation_figures.h"
#include "reports/validation_training.h"

namespace foretrain::reports {
namespace {

ValidationRow timed(const std::string& group, double predicted, double measured, bool exact = true) {
  ValidationRow r;
  r.kind = RowKind::step_time;
  r.id = group + "-row";
  r.group = group;
  r.system = "A100";
  r.unit = "s";
  r.predicted = predicted;
  r.measured = measured;
  r.exact = exact;
  r.ranks = 8;
  r.tokens = 8;
  r.workload = "w";
  return r;
}
ValidationRow skipped(const std::string& group) {
  ValidationRow r = timed(group, 1, 1);
  r.skipped = "no measurement";
  return r;
}
ValidationRows pointers(const std::vector<ValidationRow>& rows) {
  ValidationRows result;
  for (const ValidationRow& r : rows) {
    result.push_back(&r);
  }
  return result;
}

// -0.5, -0.1, +0.1, +0.2, +1.0: sizes 0.1 0.1 0.2 0.5 1.0, mean 1.9 / 5; the 5th of 5 is the 90th percentile.
TEST(ErrorFigures, ByHand) {
  const ErrorFigures f = error_figures({-0.5, -0.1, 0.1, 0.2, 1.0});
  EXPECT_EQ(f.rows, 5);
  EXPECT_NEAR(f.mean, 0.38, 1e-12);
  EXPECT_NEAR(f.median, 0.2, 1e-12);
  EXPECT_NEAR(f.p90, 1.0, 1e-12);
  EXPECT_NEAR(f.worst, 1.0, 1e-12);
  EXPECT_NEAR(f.bias, 0.1, 1e-12);
  EXPECT_EQ(error_figures({-0.25}).bias, -0.25);
  EXPECT_EQ(error_figures({}).rows, 0);
  EXPECT_TRUE(std::isnan(error_figures({}).median));
}

// The 9th of 10 is the 90th percentile, the 10th of 11 too.
TEST(ErrorFigures, NearestRank) {
  std::vector<double> errors;
  for (int i = 1; i <= 10; ++i) {
    errors.push_back(i);
  }
  EXPECT_EQ(error_figures(errors).p90, 9);
  errors.push_back(11);
  EXPECT_EQ(error_figures(errors).p90, 10);
}

TEST(GroupFigures, CountsAllRowsAndJudgesTheExactApart) {
  const std::vector<ValidationRow> rows{timed("a", 1.1, 1), timed("b", 2, 1), timed("a", 1.3, 1, false), skipped("a")};
  const std::vector<GroupFigures> figures = time_figures(pointers(rows));
  ASSERT_EQ(figures.size(), 2U);
  EXPECT_EQ(figures[0].group, "a");
  EXPECT_EQ(figures[0].rows, 3);
  EXPECT_EQ(figures[0].used.rows, 2);
  EXPECT_EQ(figures[0].exact.rows, 1);
  EXPECT_NEAR(figures[0].used.median, 0.2, 1e-12);
  EXPECT_NEAR(figures[0].exact.median, 0.1, 1e-12);
  EXPECT_EQ(figures[0].systems, std::vector<std::string>{"A100"});
}

// Groups a (0.08), b (-0.5) and c (0.2; no exact row): over a and b the median is 0.29. b is biased and shares A100
// with a and c; d stands alone on its device.
TEST(GroupFigures, AcrossGroupsEachCountsOnce) {
  std::vector<ValidationRow> rows{timed("a", 1.08, 1), timed("a", 1.08, 1), timed("b", 0.5, 1),
                                  timed("c", 1.2, 1, false)};
  AcrossGroups a = across_groups(time_figures(pointers(rows)));
  EXPECT_EQ(a.groups, 2);
  EXPECT_NEAR(a.median, 0.29, 1e-12);
  EXPECT_EQ(a.biased, std::vector<std::string>{"b"});
  EXPECT_TRUE(a.alone.empty());
  rows.push_back(timed("d", 3, 1));
  rows.back().system = "B200";
  a = across_groups(time_figures(pointers(rows)));
  EXPECT_EQ(a.groups, 3);
  EXPECT_NEAR(a.median, 0.5, 1e-12);
  EXPECT_EQ(a.alone, std::vector<std::string>{"d"});
  EXPECT_EQ(across_groups({}).groups, 0);
  // A group that a constant was fitted to is named, and has no part in the medians.
  rows.push_back(timed("e", 1, 1));
  rows.back().fitted = true;
  a = across_groups(time_figures(pointers(rows)));
  EXPECT_EQ(a.groups, 3);
  EXPECT_NEAR(a.median, 0.5, 1e-12);
  EXPECT_EQ(a.fitted, std::vector<std::string>{"e"});
}

TEST(Spearman, ByHand) {
  EXPECT_NEAR(*spearman({1, 2, 3, 4}, {10, 20, 30, 400}), 1, 1e-12);
  EXPECT_NEAR(*spearman({1, 2, 3, 4}, {4, 3, 2, 1}), -1, 1e-12);
  // Ranks 1 2 3 and 1 3 2: 1 - 6 (0 + 1 + 1) / (3 x 8).
  EXPECT_NEAR(*spearman({1, 2, 3}, {1, 9, 5}), 0.5, 1e-12);
  // Ranks 1.5 1.5 3 and 1 2 3: sums of products 1.5, of squares 1.5 and 2.
  EXPECT_NEAR(*spearman({7, 7, 9}, {1, 2, 3}), 1.5 / std::sqrt(3.0), 1e-12);
  EXPECT_FALSE(spearman({1, 2}, {1, 2}).has_value());
  EXPECT_FALSE(spearman({1, 1, 1}, {1, 2, 3}).has_value());
}

// Three plans take 3, 2 and 4 s; the first is forecast fastest, so the choice costs a half. A second workload has two
// plans only and does not count; a skipped row counts nowhere.
TEST(Ranking, ChosenPlanBesideTheBest) {
  std::vector<ValidationRow> rows{timed("a", 1, 3), timed("a", 2, 2), timed("a", 3, 4),
                                  timed("a", 1, 1), timed("a", 1, 1), skipped("a")};
  rows[3].workload = rows[4].workload = "other";
  const std::vector<double> losses = best_plan_losses(pointers(rows));
  ASSERT_EQ(losses.size(), 1U);
  EXPECT_NEAR(losses[0], 0.5, 1e-12);
  EXPECT_TRUE(ranking_figures(pointers(rows)).empty());  // fewer than kPlansToRank
  // The chosen plan once more in 2.5 s and in 2 s: it takes 2.5, the best 2. Three runs of one plan are no choice.
  rows.push_back(timed("a", 1, 2.5));
  rows.push_back(timed("a", 1, 2));
  EXPECT_NEAR(best_plan_losses(pointers(rows)).at(0), 0.25, 1e-12);
  rows = {timed("a", 1, 3), timed("a", 1, 2), timed("a", 1, 4)};
  EXPECT_TRUE(best_plan_losses(pointers(rows)).empty());
  EXPECT_TRUE(best_plan_losses({}).empty());
}

TEST(Ranking, OfThroughputAndNotOfTime) {
  std::vector<ValidationRow> rows;
  for (int i = 1; i <= kPlansToRank; ++i) {
    rows.push_back(timed("sweep", 1, 1));
    rows.back().tokens = 8.0 * i;  // as long a step with more tokens: faster
    rows.back().predicted = 1 + 0.01 * i;
  }
  const std::vector<RankingFigures> r = ranking_figures(pointers(rows));
  ASSERT_EQ(r.size(), 1U);
  EXPECT_EQ(r[0].plans, kPlansToRank);
  EXPECT_NEAR(*r[0].spearman, 1, 1e-12);
}

TEST(Verdicts, OfPlansThatRanAndOfThoseThatDidNot) {
  std::vector<ValidationRow> rows{timed("a", 1, 1), timed("a", 1, 1), timed("a", 1, 1), timed("a", 1, 1)};
  rows[0].fits = true;
  rows[1].fits = false;
  rows[2].fits = false;
  rows[2].kind = RowKind::verdict;
  const VerdictFigures v = verdict_figures(pointers(rows));  // the last has none
  EXPECT_EQ(v.ran, 2);
  EXPECT_EQ(v.ran_refused, 1);
  EXPECT_EQ(v.out_of_memory, 1);
  EXPECT_EQ(v.refused, 1);
}

// A verdict's 0 or 1 is no error of time: where there are times, only they count.
TEST(Verdicts, DoNotMixWithTimesInTheSummary) {
  std::vector<ValidationRow> rows{timed("a", 1.5, 1), timed("a", 1, 1), timed("a", 0, 1)};
  rows[1].kind = rows[2].kind = RowKind::verdict;
  EXPECT_NEAR(*summarise(pointers(rows)).median_abs_error, 0.5, 1e-12);
  EXPECT_EQ(summarise(pointers(rows)).used, 3);
  rows.erase(rows.begin());
  EXPECT_NEAR(*summarise(pointers(rows)).median_abs_error, 0.5, 1e-12);  // between 0 (right) and 1 (wrong)
  EXPECT_NEAR(*summarise(pointers(rows)).p90_abs_error, 1, 1e-12);
}

TEST(MemoryFigures, AlsoOfRowsWithoutATime) {
  std::vector<ValidationRow> rows{skipped("m"), timed("m", 1, 1)};
  rows[0].predicted_memory = 12;
  rows[0].measured_memory = 10;
  const std::vector<GroupFigures> figures = memory_figures(pointers(rows));
  ASSERT_EQ(figures.size(), 1U);
  EXPECT_EQ(figures[0].used.rows, 1);
  EXPECT_NEAR(figures[0].used.bias, 0.2, 1e-12);
}

TEST(TrainingJson, HasNoNumberWhereNothingIs) {
  const nlohmann::ordered_json document = training_json(pointers({skipped("a")}));
  EXPECT_TRUE(document["step_time"]["a"]["used"]["median_abs_error"].is_null());
  EXPECT_TRUE(document["across_groups"]["median_abs_error"].is_null());
  EXPECT_TRUE(document["ranking"].empty());
}

// Two dots: 1 s of 1 s lies on the diagonal, 0.1 s of 1 s below it. Axes are whole decades, 0.1 to 1 s, over 560 x 420
// from (70, 40): the dots stand at the right edge, at its top and at its bottom.
TEST(Scatter, DotsByHand) {
  Validation v;
  v.rows = {timed("a", 1, 1), timed("b<", 0.1, 1), skipped("c")};
  v.rows[0].id = "x\x01&y";
  const std::string svg = scatter_svg(v);
  EXPECT_NE(svg.find(R"(<circle cx="630.0" cy="40.0")"), std::string::npos) << svg;
  EXPECT_NE(svg.find(R"(<circle cx="630.0" cy="460.0")"), std::string::npos) << svg;
  EXPECT_NE(svg.find("<title>x &amp;y: "), std::string::npos) << svg;
  EXPECT_NE(svg.find("b&lt;: 1, 90.0 %"), std::string::npos) << svg;
  EXPECT_EQ(svg.find("c: "), std::string::npos) << svg;
  EXPECT_EQ(scatter_svg(v), svg);
}

TEST(Scatter, OfNothingIsAPictureToo) {
  const std::string svg = scatter_svg({});
  EXPECT_EQ(svg.find("<svg"), 0U);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

}  // namespace
}  // namespace foretrain::reports
