#include "sim/nccl.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace foretrain::sim::nccl {
namespace {

using collective::Kind;
using topologies::GpuGeneration;

const Candidate& find(const std::vector<Candidate>& all, const std::string& word) {
  for (const Candidate& c : all) {
    if (c.word() == word) {
      return c;
    }
  }
  ADD_FAILURE() << word;
  return all.front();
}

// What NCCL itself printed for 64 bytes over 3 nodes of 8 H100 (github:NVIDIA/nccl issue 1453, Tree LL): 25.207382 us.
// 6.8 + 2 (7 x 0.6 + floor(log2 3) x 5.0) = 25.2 us; 64 B over 20.4 GB/s (LL limit, Intel) x 0.85 (plain tree) x 0.5.
TEST(Nccl, PredictsWhatNcclPrinted) {
  System s;
  s.plain_tree = true;
  const Group g{24, 3, 8};
  const auto all = candidates(Kind::all_reduce, g, s, topologies::newest_nccl());
  const Candidate& c = find(all, "tree:ll");
  EXPECT_NEAR(table_seconds(c, Kind::all_reduce, 64, g, s, topologies::newest_nccl()), 25.207382e-6, 1e-12);
  EXPECT_EQ(all[choose(all, Kind::all_reduce, 64, g, s, topologies::newest_nccl())].word(), "tree:ll");
}

// 8 x A100, 12 channels of 20 GB/s: ring Simple 8.4 + 14 x 3.4 = 56 us, 240 x 8/14 GB/s; all_gather 240 x 8/7.
TEST(Nccl, RingsOfOneNode) {
  const System s{GpuGeneration::ampere, 240e9, 25e9, 12, true, false, false, false};
  const Group g{8, 1, 8};
  const auto all = candidates(Kind::all_reduce, g, s, topologies::newest_nccl());
  EXPECT_NEAR(find(all, "ring:simple").latency, 56e-6, 1e-12);
  EXPECT_NEAR(find(all, "ring:simple").algbw, 240e9 * 8 / 14, 1);
  EXPECT_NEAR(find(all, "ring:ll").algbw, 87.7e9 * 8 / 14, 1);  // half of 240, but no more than the limit
  EXPECT_NEAR(find(candidates(Kind::all_gather, g, s, topologies::newest_nccl()), "ring:simple").algbw, 240e9 * 8 / 7,
              1);
  EXPECT_EQ(find(all, "nvls:simple").disabled, "needs NVLink switches that reduce (Hopper and later)");
  EXPECT_EQ(all[choose(all, Kind::all_reduce, 1e9, g, s, topologies::newest_nccl())].word(), "ring:simple");
}

// 8 x H100: 16 channels of 2 x 20 x 0.85 x 15/16 = 510 GB/s of bus in the switch against the ring's 360.
TEST(Nccl, LargeMessagesOnHopperGoThroughTheSwitch) {
  const System s;
  const Group g{8, 1, 8};
  const auto all = candidates(Kind::all_reduce, g, s, topologies::newest_nccl());
  EXPECT_NEAR(find(all, "nvls:simple").algbw, 510e9 * 8 / 14, 1);
  EXPECT_EQ(all[choose(all, Kind::all_reduce, 1e9, g, s, topologies::newest_nccl())].word(), "nvls:simple");
  EXPECT_EQ(all[choose(all, Kind::all_reduce, 8, g, s, topologies::newest_nccl())].word(), "ring:ll");
}

// The tree's Simple hop of 28 us in 2.19 to 2.22 moves the crossover.
TEST(Nccl, VersionsDiffer) {
  EXPECT_EQ(topologies::nccl_constants_for(""), "2.30.7");
  EXPECT_EQ(topologies::nccl_constants_for("2.22.3"), "2.21.5");
  EXPECT_EQ(topologies::nccl_constants_for("22203"), "2.21.5");
  EXPECT_EQ(topologies::nccl_constants_for("2.18"), "2.18.3");
  EXPECT_EQ(topologies::nccl_constants_for("2.31.2"), "2.30.7");
  const auto old = topologies::load_nccl_constants("2.21.5");
  EXPECT_EQ(old.hops.at("tree").net[2], 28);
  EXPECT_EQ(topologies::newest_nccl().hops.at("tree").net[2], 14);
  EXPECT_THROW(topologies::load_nccl_constants("2.99"), InputError);
}

// Grid: an enabled ring for every kind and shape; figures finite and positive; a choice for every size.
TEST(Nccl, AlwaysHasAChoice) {
  for (const Kind kind : {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather, Kind::broadcast, Kind::reduce}) {
    for (const auto generation :
         {GpuGeneration::volta, GpuGeneration::ampere, GpuGeneration::hopper, GpuGeneration::blackwell}) {
      System s;
      s.generation = generation;
      for (const Group& g : {Group{2, 1, 2}, Group{2, 2, 1}, Group{8, 1, 8}, Group{16, 2, 8}, Group{2048, 512, 4}}) {
        const auto all = candidates(kind, g, s, topologies::newest_nccl());
        for (const Candidate& c : all) {
          if (c.disabled.empty()) {
            EXPECT_TRUE(std::isfinite(c.latency) && c.latency > 0 && std::isfinite(c.algbw) && c.algbw > 0) << c.word();
          }
        }
        for (double bytes = 0; bytes < 1e12; bytes = bytes * 7 + 1) {
          EXPECT_TRUE(all[choose(all, kind, bytes, g, s, topologies::newest_nccl())].disabled.empty());
        }
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::sim::nccl
