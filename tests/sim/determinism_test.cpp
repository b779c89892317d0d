// One input, one timeline, byte for byte: run again, and on many threads at once.
#include <gtest/gtest.h>

#include <thread>

#include "plan/build.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

struct Input {
  plan::PlanGraph graph;
  topologies::Cluster cluster;
  Options options;
};

Input input(const char* text, std::vector<std::string> overrides, Options options = {}) {
  overrides.insert(overrides.begin(), {"cluster.system=dgx-h100", "precision=bf16"});
  plan::Job job = testing::tiny_job(text, overrides);
  topologies::load_profile_of(job.cluster);
  plan::PlanGraph graph = plan::build(job);
  return {std::move(graph), std::move(job.cluster), options};
}

std::vector<Input> inputs() {
  Options every_rank;
  every_rank.fold_ranks = false;
  Options flows;
  flows.network_model = "fair_share";
  flows.fold_ranks = false;
  const std::string traffic = R"(cluster.disturbance={"background": [{"from": 0, "to": 9, "bandwidth": "30 GB/s"}]})";
  const std::string jitter = R"(cluster.disturbance={"jitter": 0.1, "seed": 7})";
  return {
      input(testing::kTinyGpt, {"dp=2", "tp=2", "pp=2", "nodes=1", "overlap_grad_reduce=true"}),
      input(testing::kTinyGpt, {"dp=2", "tp=2", "pp=2", "nodes=1", "overlap_grad_reduce=true"}, every_rank),
      input(testing::kTinyLlama, {"dp=8", "tp=2", "zero=1", "sequence_parallel=true", "nodes=2"}, every_rank),
      input(testing::kTinyLlama, {"dp=4", "pp=2", "schedule=interleaved", "virtual_stages=2", "nodes=1", jitter}),
      input(testing::kTinyGpt, {"dp=8", "pp=2", "zero=1", "nodes=2", "overlap_grad_reduce=true", traffic}, flows),
  };
}

std::string bytes(const Input& i) {
  return plan::to_json(timeline(i.graph, i.cluster, i.options));
}

TEST(Determinism, TimelinesAreTheSameBytesOnAnyNumberOfThreads) {
  const std::vector<Input> all = inputs();
  std::vector<std::string> expected;
  for (const Input& i : all) {
    expected.push_back(bytes(i));
    EXPECT_EQ(bytes(i), expected.back());
  }
  EXPECT_NE(expected[0], expected[1]);  // else equality says nothing
  for (const std::size_t threads : {1u, 2u, 8u}) {
    std::vector<std::vector<std::string>> found(threads);
    {
      std::vector<std::jthread> running;
      for (std::size_t t = 0; t < threads; ++t) {
        running.emplace_back([&all, &mine = found[t], t] {
          for (std::size_t i = 0; i < all.size(); ++i) {
            mine.push_back(bytes(all[(i + t) % all.size()]));  // each begins with another
          }
        });
      }
    }
    for (std::size_t t = 0; t < threads; ++t) {
      for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(found[t][i], expected[(i + t) % all.size()]) << threads << " threads, thread " << t;
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
