// Whatever schedule the check accepts, the builder makes a graph of that runs and races with nothing.
#include "tests/support/random_schedule.h"

#include <gtest/gtest.h>

#include <numeric>

#include "plan/build.h"
#include "plan/schedule_times.h"
#include "plan/validate.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

TEST(RandomSchedule, PassesTheCheckAndComesToItsEnd) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 200; ++trial) {
    const int pp = 1 + static_cast<int>(random() % 4), v = 1 + static_cast<int>(random() % 3);
    const int m = 1 + static_cast<int>(random() % 4);
    const Schedule s = testing::random_schedule(random, pp, v, m);
    ASSERT_NO_THROW(check(s, pp, v, m, "random")) << to_text(s);
    EXPECT_GE(times(s).makespan, 3 * v * m);
    for (const std::vector<Action>& row : s) {
      const CopyAssignment a = assign_copies(row);
      EXPECT_LE(a.slots, a.holds);
      EXPECT_LE(a.rings, a.holds);
      EXPECT_LE(a.holds, v * m);
    }
  }
}

// Layers at random too: none on some stages, all on others.
TEST(RandomSchedule, GivesAValidGraph) {
  const test::TemporaryFolder folder;
  std::mt19937 random(12);
  for (int trial = 0; trial < 60; ++trial) {
    const int pp = 2 + static_cast<int>(random() % 3), v = 1 + static_cast<int>(random() % 2);
    const int m = 1 + static_cast<int>(random() % 4), dp = 1 + static_cast<int>(random() % 2);
    const Schedule s = testing::random_schedule(random, pp, v, m);
    folder.write("schedule.txt", to_text(s));
    std::vector<int> layers(static_cast<std::size_t>(pp * v));
    std::generate(layers.begin(), layers.end(), [&] { return static_cast<int>(random() % 3); });
    layers[random() % layers.size()] += 1;
    std::string split;
    for (const int n : layers) {
      split += (split.empty() ? "[" : ",") + std::to_string(n);
    }
    const std::vector<std::string> overrides{
        "pp=" + std::to_string(pp),
        "virtual_stages=" + std::to_string(v),
        "dp=" + std::to_string(dp),
        "global_batch=" + std::to_string(m * dp),
        "schedule=" + folder.path("schedule.txt"),
        "layers_per_stage=" + split + "]",
        "workload.model.layers=" + std::to_string(std::accumulate(layers.begin(), layers.end(), 0)),
        std::string("zero=") + (random() % 2 == 0 ? "1" : "0"),
        std::string("overlap_grad_reduce=") + (random() % 2 == 0 ? "true" : "false"),
        std::string("bucket_bytes=") + (random() % 2 == 0 ? "1 B" : "1 MB"),
        std::string("recompute=") + (random() % 2 == 0 ? "full" : "none"),
    };
    for (const std::vector<std::string>& tp :
         {std::vector<std::string>{}, {"tp=2", "sequence_parallel=true"}, {"tp=4", "sequence_parallel=false"}}) {
      std::vector<std::string> all = overrides;
      all.insert(all.end(), tp.begin(), tp.end());
      const PlanGraph g = build(testing::tiny_job(trial % 2 == 0 ? testing::kTinyGpt : testing::kTinyLlama, all));
      EXPECT_EQ(validate(g), std::vector<std::string>{}) << ::testing::PrintToString(all) << "\n" << to_text(s);
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
