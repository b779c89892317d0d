// Forecasts of mixtures of experts: products per expert, the wait for the busiest rank, and classes of ranks.
#include <gtest/gtest.h>

#include "plan/build.h"
#include "plan/validate.h"
#include "sim/compute_model.h"
#include "sim/simulator.h"
#include "tests/support/tiny_jobs.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

plan::Job mixtral(std::vector<std::string> words) {
  words.insert(words.begin(), {R"(workload.model="mixtral-8x7b")", "seq_len=2048", "global_batch=64", "precision=bf16",
                               R"(cluster={"system":"dgx-h100","nodes":2})"});
  plan::Job job = foretrain::testing::tiny_job(foretrain::testing::kTinyMoe, words);
  topologies::load_profile_of(job.cluster);
  return job;
}

// One expert's products are those of a matmul of the same shape; eight share the device, so that eight of an eighth of
// the rows take no less than one of all.
TEST(Experts, ProductsAreThoseOfMatmuls) {
  const plan::Job job = mixtral({"dp=2", "tp=8"});
  const auto model = make_compute_model("roofline", job.cluster);
  const auto seconds = [&](plan::Work work) {
    plan::Op op;
    op.work = std::move(work);
    return model->seconds(op);
  };
  const plan::GroupedMatmul one{plan::Direction::forward, 1, 4096, 2048, 1024, Dtype::bf16, Dtype::bf16};
  plan::Matmul matmul{4096, 2048, 1024, false, true, false, false, Dtype::bf16, Dtype::bf16};
  EXPECT_DOUBLE_EQ(seconds(one), seconds(matmul));
  plan::GroupedMatmul eight = one;
  eight.experts = 8;
  EXPECT_GT(seconds(eight), seconds(one));
  // A weight gradient has its sums beside the products: 2048 x 1024 floats are read and written, at the full bandwidth.
  // The matmul is at the power limit, and both wait for the slowest of 16 devices, 1.766 deviations away.
  plan::GroupedMatmul weight{plan::Direction::backward_weight, 1, 4096, 2048, 1024, Dtype::bf16, Dtype::fp32};
  matmul = {2048, 1024, 4096, true, false, false, true, Dtype::bf16, Dtype::fp32};
  const double sums = 2.0 * 4 * 2048 * 1024 / job.cluster.device.memory_bandwidth.value;
  const double slowest = 1 + 1.766 * job.cluster.profile->roofline.matmul_spread.value;
  EXPECT_GT(seconds(weight), seconds(matmul));
  EXPECT_LE(seconds(weight), seconds(matmul) + sums * slowest * 1.001);
  // 256 experts of 16 rows waste most of their tiles: longer than 16 of 256.
  eight.experts = 256;
  const double small = seconds(eight);
  eight.experts = 16;
  EXPECT_GT(small, seconds(eight));
}

TEST(Experts, AllRanksOfAStageAreOneClassAndWaitForTheBusiest) {
  Time balanced;
  for (const char* const imbalance : {"0", "0.5", "1"}) {
    const plan::Job job = mixtral({"dp=16", "ep=8", "zero=1", "moe_imbalance=" + std::string(imbalance)});
    const plan::PlanGraph graph = plan::build(job);
    const Simulation s = simulate(graph, job.cluster, {});
    EXPECT_EQ(s.classes.size(), 1u);
    EXPECT_GT(s.breakdown.at(0).exposed_ep.value, 0);
    EXPECT_GT(s.step_time, balanced) << imbalance;
    balanced = s.step_time;
  }
}

// Tokens that cross nodes take longer: groups of 8 on nodes of 8 devices, and on two of 4.
TEST(Experts, ExchangeAcrossNodesTakesLonger) {
  const auto exposed = [](const char* cluster) {
    const plan::Job job = mixtral({cluster, "dp=16", "ep=8"});
    return simulate(plan::build(job), job.cluster, {}).breakdown.at(0).exposed_ep;
  };
  EXPECT_GT(exposed(R"(cluster={"system":"dgx-h100","nodes":4,"devices_per_node":4})"),
            exposed(R"(cluster={"system":"dgx-h100","nodes":2})"));
}

// A forward beside a backward of another microbatch: the exchanges of either run behind the other's compute, in the
// middle of the step all but wholly. What they take from compute meanwhile is less than they took alone.
TEST(Experts, ExchangesBesideAnotherMicrobatchAreHidden) {
  const auto simulated = [](const std::string& overlap_ep) {
    const plan::Job job = mixtral({"dp=16", "ep=8", "global_batch=128", "overlap_ep=" + overlap_ep});
    return simulate(plan::build(job), job.cluster, {});
  };
  const Simulation apart = simulated("false"), beside = simulated("true");
  EXPECT_LT(beside.step_time, apart.step_time);
  // 8 microbatches: 7 pairs, and one forward and one backward alone.
  EXPECT_LT(beside.breakdown.at(0).exposed_ep.value, apart.breakdown.at(0).exposed_ep.value / 2);
  EXPECT_EQ(beside.classes.size(), 1u);
}

// Where ranks are simulated one by one the result is the same.
TEST(Experts, FoldedIsUnfolded) {
  plan::Job job = foretrain::testing::tiny_job(
      foretrain::testing::kTinyMoe, {"precision=bf16", R"(cluster={"system":"dgx-h100","nodes":1})", "dp=4", "tp=2",
                                     "sequence_parallel=true", "expert_tp=1", "ep=4", "moe_imbalance=0.3"});
  topologies::load_profile_of(job.cluster);
  const plan::PlanGraph graph = plan::build(job);
  Options unfolded;
  unfolded.fold_ranks = unfolded.fold_time = false;
  EXPECT_EQ(simulate(graph, job.cluster, {}).step_time, simulate(graph, job.cluster, unfolded).step_time);
}

}  // namespace
}  // namespace foretrain::sim
