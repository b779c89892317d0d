// Our flows beside ns-3's packets.
#include "tests/support/packet_level.h"

#include <gtest/gtest.h>

#include "tests/support/traffic_patterns.h"

namespace foretrain::sim {
namespace {

constexpr double kTolerance = 0.05;

LeafSpine sixteen_hosts(double uplinks_of_a_host) {
  LeafSpine network;
  network.leaves = 4;
  network.hosts_per_leaf = 4;
  network.host = {12.5e9};
  network.uplink = {12.5e9 * uplinks_of_a_host};
  network.latency = Time{1'000'000};
  return network;
}

// Three senders under other leaves, one receiver: what each has had follows from fair shares of the receiver's cable.
class Incast : public Traffic {
 public:
  std::int32_t size() const override { return 3; }
  std::vector<std::pair<int, int>> pairs() const override { return {{4, 0}, {8, 0}, {12, 0}}; }
  void begin(const Send& send) override {
    for (std::int32_t i = 0; i < 3; ++i) {
      send(i, {4 * (i + 1), 0, Bytes{(i + 1) * 1'000'000}});
    }
  }
  void ended(std::int32_t, const Send&) override {}
};

void expect_ends_near(const FlowRun& ours, const FlowRun& theirs) {
  ASSERT_EQ(ours.ends_s.size(), theirs.ends_s.size());
  for (std::size_t tag = 0; tag < ours.ends_s.size(); ++tag) {
    EXPECT_NEAR(ours.ends_s[tag], theirs.ends_s[tag], kTolerance * theirs.ends_s[tag]) << "tag " << tag;
  }
}

// 6 MiB over 16 hosts: 30 steps of 384 KiB; four of sixteen messages of a step cross the spine, there with a host's
// bandwidth at most, or at half of it.
TEST(PacketLevel, RingAllReduce) {
  for (const double uplink : {4.0, 0.5}) {
    const LeafSpine network = sixteen_hosts(uplink);
    RingAllReduce ring(network.hosts(), Bytes{6 << 20}), again = ring;
    const std::optional<FlowRun> theirs = run_packets(network, ring);
    if (!theirs) {
      GTEST_SKIP() << "ns-3 was not found at build time (apt-get install libns3-dev)";
    }
    expect_ends_near(run_flows(as_flows(network), again), *theirs);
  }
}

TEST(PacketLevel, Incast) {
  const LeafSpine network = sixteen_hosts(4);
  Incast incast;
  const std::optional<FlowRun> theirs = run_packets(network, incast);
  if (!theirs) {
    GTEST_SKIP() << "ns-3 was not found at build time (apt-get install libns3-dev)";
  }
  expect_ends_near(run_flows(as_flows(network), incast), *theirs);
}

}  // namespace
}  // namespace foretrain::sim
