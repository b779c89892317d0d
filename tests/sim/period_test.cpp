// Steps that are not alike.
#include "sim/period.h"

#include <gtest/gtest.h>

#include "plan/build.h"
#include "plan/validate.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

// Every step computes for 100 ps; the last of `every` does `more` as well.
plan::PlanGraph graph(std::int32_t every, plan::Op more) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {work(100)});
  append(g.roles[0], {std::move(more)});
  g.roles[0].program.body.back().every = every;
  return g;
}

// 40 ps more in one of H steps: 100 + 40 / H, whether H steps are simulated or the three that stand for them.
TEST(Period, IsTheMeanOverItsSteps) {
  for (const std::int32_t every : {1, 2, 4, 5, 8, 40}) {
    const plan::PlanGraph g = graph(every, work(40));
    const Simulation s = simulate(g, clockwork(1), {});
    EXPECT_EQ(s.step_time, Time{100 + 40 / every}) << every;
    EXPECT_EQ(s.breakdown[0].total(), s.step_time) << every;
    Recorder recorder;
    const Simulation whole = simulate(g, clockwork(1), {}, &recorder);
    EXPECT_EQ(whole.step_time, s.step_time);
    EXPECT_EQ(std::ssize(whole.step_ends), 2 * every);
    EXPECT_EQ(whole.step_ends.front(), Time{every == 1 ? 140 : 100});
    EXPECT_EQ(plan::validate(g, timeline(g, clockwork(1))), std::vector<std::string>{});
  }
}

// On another stream, and nobody waits for it: behind the next steps.
TEST(Period, MayRunBehindTheNextSteps) {
  for (const std::int32_t every : {2, 3, 10}) {
    EXPECT_EQ(simulate(graph(every, work(130, 1)), clockwork(1), {}).step_time, Time{100}) << every;
  }
}

// Local SGD as it is built: no step overlaps the one behind an average, so that the short cycle is exact to the
// picosecond that the mean is rounded by; folded or not.
TEST(Period, OfLocalSgdIsThatOfAllItsSteps) {
  using Words = std::vector<std::string>;
  for (const Words& words :
       {Words{"dp=4"}, Words{"dp=4", "local_group=2", "overlap_grad_reduce=true"}, Words{"dp=2", "pp=2"},
        Words{"dp=2", "tp=2"}, Words{"dp=2", R"(outer_optimizer={"kind":"nesterov"})"}}) {
    SCOPED_TRACE(::testing::PrintToString(words));
    std::vector<std::string> all{"data_parallel=local_sgd", "average_every=7", "precision=fp32"};
    all.insert(all.end(), words.begin(), words.end());
    const plan::Job job = testing::tiny_job(testing::kTinyGpt, all);
    const plan::PlanGraph g = plan::build(job);
    const topologies::Cluster cluster = clockwork(static_cast<int>(job.strategy.ranks()));
    const Simulation s = simulate(g, cluster, {});
    Options unfolded;
    unfolded.fold_ranks = unfolded.fold_time = false;
    EXPECT_EQ(simulate(g, cluster, unfolded).step_time, s.step_time);
    Recorder recorder;
    const Simulation whole = simulate(g, cluster, {}, &recorder);
    EXPECT_NEAR(static_cast<double>(whole.step_time.value), static_cast<double>(s.step_time.value), 1.0);
    EXPECT_EQ(plan::validate(g, timeline(g, cluster)), std::vector<std::string>{});
  }
}

// A graph that repeats has one period.
TEST(Period, IsOneForAll) {
  plan::PlanGraph g = stages(1);
  append(g.roles[0], {plan::Op{}});
  append(g.roles[0], {plan::Op{}});
  g.roles[0].program.body.back().every = 3;
  g.roles[0].program.body.push_back(g.roles[0].program.body.back());
  const auto complaints = [&] {
    const std::vector<std::string> all = plan::validate(g);
    return std::count_if(all.begin(), all.end(), [](const std::string& line) {
      return line.find("where the graph repeats after 3") != std::string::npos;
    });
  };
  EXPECT_EQ(plan::validate(g), std::vector<std::string>{});
  g.roles[0].program.body.back().every = 2;
  EXPECT_EQ(complaints(), 1);
  g.roles[0].program.body.back().every = 0;
  EXPECT_EQ(complaints(), 1);
}

}  // namespace
}  // namespace foretrain::sim
