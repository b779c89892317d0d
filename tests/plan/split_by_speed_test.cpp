#include "plan/split_by_speed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using Parts = std::vector<std::int64_t>;
using Words = std::vector<std::string>;

// 7 parts at speeds 1 and 1/2: of 6 dealt out as 4 and 2, which end at 4, the seventh would end at 5 or 6.
TEST(Apportion, EndsAsEarlyAsCanBe) {
  EXPECT_EQ(apportion(8, {1, 1}), (Parts{4, 4}));
  EXPECT_EQ(apportion(6, {1, 0.5}), (Parts{4, 2}));
  EXPECT_EQ(apportion(7, {1, 0.5}), (Parts{5, 2}));
  EXPECT_EQ(apportion(3, {0.001, 1, 1}), (Parts{1, 1, 1}));
  EXPECT_EQ(apportion(9, {0.001, 1, 3}), (Parts{1, 2, 6}));
  EXPECT_EQ(apportion(1, {5}), (Parts{1}));
}

// By trying all splits of three.
TEST(Apportion, NoSplitEndsEarlier) {
  for (const std::vector<double>& speeds : {std::vector<double>{1, 0.7, 0.3}, {0.2, 1, 0.9}, {1, 1, 1}, {3, 2, 0.1}}) {
    for (std::int64_t total = 3; total < 30; ++total) {
      const auto end = [&](const Parts& parts) {
        double last = 0;
        for (std::size_t i = 0; i < parts.size(); ++i) {
          last = std::max(last, static_cast<double>(parts[i]) / speeds[i]);
        }
        return last;
      };
      double best = 1e300;
      for (std::int64_t a = 1; a < total - 1; ++a) {
        for (std::int64_t b = 1; a + b < total; ++b) {
          best = std::min(best, end({a, b, total - a - b}));
        }
      }
      const Parts split = apportion(total, speeds);
      EXPECT_EQ(split[0] + split[1] + split[2], total);
      EXPECT_DOUBLE_EQ(end(split), best);
    }
  }
}

TEST(Apportion, OfManyPartsAtOnce) {
  const Parts split = apportion(1'000'000'000, {1, 0.25});
  EXPECT_EQ(split, (Parts{800'000'000, 200'000'000}));
}

std::string slow(int rank, double speed) {
  return "cluster.disturbance={\"devices\": [{\"range\": \"" + std::to_string(rank) +
         "\", \"speed\": " + std::to_string(speed) + "}]}";
}

// 8 microbatches at speeds 1, 1/2, 1: behind 3, 1, 3 whoever gets the last one ends at 4. All end with microbatch 3. A
// step's batch is rank 0's four sequences, rank 1's one, rank 2's three.
TEST(SplitBySpeed, GivesSlowRanksFewerMicrobatches) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"dp=3", "split_by_speed=true", slow(1, 0.5)});
  EXPECT_EQ(job.strategy.microbatches_of, (Parts{4, 1, 3}));
  EXPECT_EQ(job.microbatches(), 4);
  const PlanGraph g = build(job);
  EXPECT_EQ(validate(g), Words{});
  ASSERT_EQ(g.roles.size(), 3U);
  EXPECT_EQ(g.roles[0].name, "stage 0 dp 0");
  EXPECT_EQ(g.roles[1].name, "stage 0 dp 1");
  EXPECT_EQ(g.all_microbatches(), 8);
  EXPECT_EQ(first_microbatch(g.roles[0]), 0);
  EXPECT_EQ(first_microbatch(g.roles[1]), 3);
  EXPECT_EQ(first_microbatch(g.roles[2]), 1);
  EXPECT_EQ(g.microbatches_before(0, 0), 0);
  EXPECT_EQ(g.microbatches_before(0, 3), 3);
  EXPECT_EQ(g.microbatches_before(1, 3), 4);
  EXPECT_EQ(g.microbatches_before(2, 1), 5);
  EXPECT_EQ(g.microbatches_before(2, 3), 7);
}

TEST(SplitBySpeed, NeighboursAlikeAreOneRole) {
  const Job job =
      testing::tiny_job(testing::kTinyGpt, {"dp=4", "global_batch=14", "split_by_speed=true", slow(3, 0.5)});
  EXPECT_EQ(job.strategy.microbatches_of, (Parts{4, 4, 4, 2}));
  const PlanGraph g = build(job);
  ASSERT_EQ(g.roles.size(), 2U);
  EXPECT_EQ(g.roles[0].name, "stage 0 dp 0-2");
  EXPECT_EQ(count(g.mesh, g.roles[0].ranks), 3);
}

// Machines alike are split evenly: the same plan.
TEST(SplitBySpeed, OfEqualsIsAnEvenSplit) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"dp=2", "split_by_speed=true"});
  EXPECT_TRUE(job.strategy.microbatches_of.empty());
  EXPECT_EQ(build(job).roles.size(), 1U);
}

// 4 layers on stages of speeds 1 and 1/2: 3 and 1 (4/1 and 0: one at least; 2 and 2 would take 4, 3 and 1 take 3).
TEST(SplitBySpeed, GivesSlowStagesFewerLayers) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"pp=2", "split_by_speed=true", slow(1, 0.5)});
  EXPECT_EQ(layers_per_stage(job), (Parts{3, 1}));
  EXPECT_EQ(validate(build(job)), Words{});
  const Job given =
      testing::tiny_job(testing::kTinyGpt, {"pp=2", "split_by_speed=true", "layers_per_stage=[2,2]", slow(1, 0.5)});
  EXPECT_EQ(layers_per_stage(given), (Parts{2, 2}));
}

// Ranks pp, dp: 0 and 1 are stage 0. Rank 1 is slow: stage 0 has 1 layer of 4, and so rank 1, at 1/4 of the speed,
// takes 4 where stage 1 takes 3: of 8 microbatches replica 0, at 1/3, has 5, replica 1, at 1/4, has 3 (15 and 12; 4 and
// 4: 16).
TEST(SplitBySpeed, BothAtOnce) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"pp=2", "dp=2", "split_by_speed=true", slow(1, 0.25)});
  EXPECT_EQ(layers_per_stage(job), (Parts{1, 3}));
  EXPECT_EQ(job.strategy.microbatches_of, (Parts{5, 3}));
  const PlanGraph g = build(job);
  EXPECT_EQ(g.roles.size(), 4U);
  EXPECT_EQ(validate(g), Words{});
}

// What a resolved job says is read back as it was.
TEST(SplitBySpeed, SurvivesItsOwnDocument) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"pp=2", "dp=2", "split_by_speed=true", slow(1, 0.25)});
  const Job again = job_from_text(resolved(job).dump(), "again", {});
  EXPECT_EQ(resolved(again), resolved(job));
  EXPECT_EQ(again.strategy.microbatches_of, job.strategy.microbatches_of);
}

TEST(SplitBySpeed, RefusesWhatKeepsRanksInStep) {
  const auto refusal = [](Words words) {
    words.insert(words.begin(), {"dp=2", "split_by_speed=true"});
    try {
      testing::tiny_job(testing::kTinyGpt, words);
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const std::string at = "command line: /strategy/split_by_speed: ";
  EXPECT_EQ(refusal({"zero=2"}), at + "with zero 2 or 3 is not built; expected false");
  EXPECT_EQ(refusal({"data_parallel=gather"}), at + "with another data_parallel is not built; expected false");
  EXPECT_EQ(refusal({"workload.data.distribution=block"}),
            at + "with data.distribution block is not built; expected false");
  EXPECT_EQ(refusal({"micro_batch=8"}), at + "1 microbatches for 2 ranks along dp; expected one for each");
  EXPECT_EQ(refusal({"micro_batch=3"}), "test job:4: /workload/global_batch: 8 is not a multiple of micro_batch 3");
}

}  // namespace
}  // namespace foretrain::plan
