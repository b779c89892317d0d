#include "sim/link_traffic.h"

#include <gtest/gtest.h>

#include "plan/build.h"
#include "plan/job.h"

namespace foretrain::sim {
namespace {

// Two nodes of one device, 50 GB/s between them, datasheet figures. A microbatch's activations are
// 1 x 128 x 256 x 2 bytes = 65,536 bytes.
constexpr const char* kJob = R"({"version": 1,
  "workload": {"model": {"architecture": "decoder", "layers": 4, "hidden": 256, "heads": 4, "ffn_hidden": 1024, "vocab": 512,
                         "activation": "gelu", "norm": "layernorm", "positions": "learned", "tied_embeddings": false},
               "seq_len": 128, "global_batch": 8, "precision": "bf16", "optimizer": "adamw"},
  "cluster": {"system": {"description": "two nodes", "device": "a100-sxm-80gb", "devices_per_node": 1,
                         "intra": {"bandwidth": "300 GB/s", "latency": "1 us", "source": "a test"},
                         "inter": {"bandwidth": "50 GB/s", "latency": "2 us", "source": "a test"}, "source": "a test"},
              "nodes": 2},
  "strategy": {"micro_batch": 1, "pp": 2}})";

TEST(LinkTraffic, APipelinesMessages) {
  const plan::Job job = plan::job_from_text(kJob, "test", {});
  const plan::PlanGraph graph = plan::build(job);
  const auto network = topologies::make_network(job.cluster);
  const std::vector<double> busy = link_busy_seconds(graph, job.cluster, *network);
  ASSERT_EQ(busy.size(), static_cast<std::size_t>(network->link_count()));
  // Eight microbatches forward over device 0's way out and device 1's way in, eight gradients back. A few scalars of
  // the gradient's norm come beside them.
  constexpr double kOneWay = 8 * 65536 / 50e9;
  topologies::Route route;
  for (const auto& [from, to] : {std::pair{0, 1}, {1, 0}}) {
    network->route(from, to, 0, route);
    for (const topologies::Route::Hop& hop : route.hops) {
      if (network->link(hop.link).capacity.value == 50e9) {
        EXPECT_NEAR(busy[static_cast<std::size_t>(hop.link)], kOneWay, 0.02 * kOneWay) << hop.link;
      }
    }
  }
}

TEST(LinkTraffic, NothingLeavesOneNode) {
  plan::Job job = plan::job_from_text(
      kJob, "test", {"cluster.nodes=1", "cluster.system.devices_per_node=2", "strategy.pp=1", "strategy.dp=2"});
  const plan::PlanGraph graph = plan::build(job);
  const auto network = topologies::make_network(job.cluster);
  const std::vector<double> busy = link_busy_seconds(graph, job.cluster, *network);
  double inside = 0;
  for (topologies::LinkId id = 0; id < network->link_count(); ++id) {
    const double capacity = network->link(id).capacity.value;
    if (capacity == 300e9) {
      inside += busy[static_cast<std::size_t>(id)];
    } else {
      EXPECT_EQ(busy[static_cast<std::size_t>(id)], 0)
          << network->link_classes()[static_cast<std::size_t>(network->link(id).link_class)];
    }
  }
  EXPECT_GT(inside, 0);
}

}  // namespace
}  // namespace foretrain::sim
