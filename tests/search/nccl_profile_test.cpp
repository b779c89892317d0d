#include "search/nccl_profile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "base/error.h"
#include "sim/network.h"

namespace foretrain::search {
namespace {

using topologies::Cluster;
using topologies::NcclSweep;

Cluster pair_of_links() {
  Cluster c;
  c.name = "pair";
  c.nodes = 1;
  c.devices_per_node = 8;
  c.intra = {{300e9}, {3'000'000}};  // 3 us
  c.inter = {{25e9}, {14'000'000}};
  return c;
}

NcclSweep sweep(const std::string& collective, int ranks, int nodes, std::vector<NcclSweep::Row> rows) {
  return {"a.txt", collective, "", ranks, nodes, ranks / nodes, std::move(rows)};
}

// One node, a switch that reduces nothing: NCCL's ring moves n/(2(n-1)) of the bus. 8 GiB in 60 ms are 250.5 GB/s of
// bus bandwidth; latency, at 40 us of 60 ms, is the rest.
TEST(NcclProfile, GivesBackTheLargestAndTheSmallestSize) {
  Cluster cluster = pair_of_links();
  const std::vector<NcclSweep> sweeps{
      sweep(
          "all_reduce", 8, 1,
          {{8, 40e-6, 0}, {16, 41e-6, 0}, {32, 42e-6, 0}, {1 << 20, 90e-6, 0}, {std::int64_t{8} << 30, 60e-3, 250e9}}),
      sweep("all_to_all", 16, 2, {{8, 60e-6, 0}, {std::int64_t{1} << 30, 25e-3, 40e9}})};
  const NcclProfile p = profile_of(cluster, sweeps);
  ASSERT_TRUE(p.profile.has_network);
  const double busbw = p.profile.network.node_busbw.at("all_reduce").value;
  EXPECT_GT(busbw, 250.5e9);
  EXPECT_LT(busbw, 275e9);
  EXPECT_NE(p.profile.network.node_busbw.at("all_reduce").source.find("8589934592 B in 60000 us (a.txt)"),
            std::string::npos);
  cluster.profile = std::make_shared<topologies::Profile>(p.profile);
  EXPECT_FALSE(p.profile.network.environments_prevail);
  const auto model = sim::make_alpha_beta(cluster);
  using plan::CollectiveKind;
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{std::int64_t{8} << 30}, {8, 1, 8}), 60e-3, 1e-5);
  EXPECT_NEAR(model->collective(CollectiveKind::all_reduce, Bytes{8}, {8, 1, 8}), 41e-6, 1e-9);
  // 8 of 16 parts leave each rank's node through 25 GB/s: 2^29 / 25e9 = 21.5 ms, 0.86 of the 25 ms less 60 us.
  EXPECT_NEAR(p.profile.network.fabric_fraction.at("all_to_all").value, std::ldexp(1, 29) / 25e9 / (25e-3 - 60e-6),
              1e-3);
  EXPECT_NEAR(p.profile.network.fabric_message_latency.value, 60e-6, 1e-8);
  ASSERT_EQ(p.fits.size(), 2u);
  EXPECT_EQ(p.fits[0].figure, "node_busbw.all_reduce");
  EXPECT_EQ(p.fits[1].figure, "fabric_fraction.all_to_all");
  EXPECT_EQ(p.assumed.size(), 1u);
}

// No ring makes more of a link than the link; 8 GiB in 40 ms are 376 GB/s on links of 300.
TEST(NcclProfile, TakesWhatOutrunsTheLinksForReducedInTheSwitch) {
  const NcclProfile p =
      profile_of(pair_of_links(), {sweep("all_reduce", 8, 1, {{8, 40e-6, 0}, {std::int64_t{8} << 30, 40e-3, 376e9}})});
  EXPECT_EQ(p.fits[0].figure, "node_busbw.all_reduce_in_switch");
  EXPECT_EQ(p.profile.network.node_busbw.count("all_reduce"), 0u);
}

TEST(NcclProfile, WarnsOfWhatASweepCannotSay) {
  const NcclProfile p =
      profile_of(pair_of_links(), {sweep("all_gather", 8, 1, {{1 << 20, 60e-6, 15e9}, {4 << 20, 100e-6, 36e9}}),
                                   sweep("reduce", 8, 1, {{8, 40e-6, 0}})});
  ASSERT_EQ(p.warnings.size(), 3u);
  EXPECT_EQ(p.warnings[0], "a.txt: reduce has no figure of its own in a profile; left out");
  EXPECT_NE(p.warnings[1].find("begins at 1048576 bytes"), std::string::npos);
  EXPECT_NE(p.warnings[2].find("still gets faster at its largest size, 4194304 bytes"), std::string::npos);
  EXPECT_EQ(p.profile.network.node_extra.source, "not measured");
}

TEST(NcclProfile, RefusesWhatTheSystemCannotHaveRun) {
  const auto refusal = [](const NcclSweep& s) -> std::string {
    try {
      profile_of(pair_of_links(), {s});
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(sweep("all_reduce", 20, 2, {{8, 40e-6, 0}})),
            "a.txt: 10 ranks on a node; a node of pair has 8 devices");
  EXPECT_NE(refusal(sweep("all_reduce", 1, 1, {{8, 40e-6, 0}})).find("1 ranks on 1 nodes"), std::string::npos);
  EXPECT_NE(refusal(sweep("reduce", 8, 1, {{8, 40e-6, 0}})).find("expected all_reduce"), std::string::npos);
}

}  // namespace
}  // namespace foretrain::search
