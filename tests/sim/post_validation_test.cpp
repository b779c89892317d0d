// What a step gains whose optimizer does not wait for the norm over all stages.
#include <gtest/gtest.h>

#include "plan/build.h"
#include "sim/simulator.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

// Mean share of a rank's period that is bubble or waits for other stages.
double idle(const std::vector<std::string>& overrides, const char* optimizer_sync) {
  std::vector<std::string> all = {"precision=bf16",
                                  "pp=4",
                                  "global_batch=16",
                                  "workload.model.layers=4",
                                  "workload.optimizer={\"name\":\"adam\",\"clip\":0}",
                                  std::string("optimizer_sync=") + optimizer_sync};
  all.insert(all.end(), overrides.begin(), overrides.end());
  const plan::Job job = testing::tiny_job(testing::kTinyGpt, all);
  topologies::Cluster c = clockwork(4);
  c.device.memory_bandwidth = Bandwidth{3e11};
  c.device.peak[Dtype::bf16] = FlopRate{7e12};
  Options options;
  options.steps = 6;
  const Simulation s = simulate(plan::build(job), c, options);
  double sum = 0;
  for (const plan::Breakdown& rank : s.breakdown) {
    sum += static_cast<double>((rank.bubble + rank.exposed_pp).value) / static_cast<double>(s.step_time.value);
  }
  return sum / static_cast<double>(s.breakdown.size());
}

// ZB-H2 is never idle from a rank's first action to its last, and each rank begins and ends pp - 1 - rank units of F
// before the last one: without a meeting at the end the next step begins as early. What is left comes from stages that
// are not equally long. With 1F1B a rank waits inside the step, whatever the optimizer does.
TEST(PostValidation, ClosesTheBubbleOfZeroBubbleTwo) {
  const double waits = idle({"schedule=zb_h2"}, "global"), goes_on = idle({"schedule=zb_h2"}, "post_validation");
  EXPECT_GT(waits - goes_on, 0.03);  // 3 units of F of 48 + 3 where all are equal: 5.9 %
  EXPECT_GT(idle({}, "post_validation"), 0.1);
  EXPECT_LE(idle({}, "post_validation"), idle({}, "global"));
}

}  // namespace
}  // namespace foretrain::sim
