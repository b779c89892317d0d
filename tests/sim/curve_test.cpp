#include "sim/curve.h"

#include <gtest/gtest.h>

namespace foretrain::sim {
namespace {

TEST(Curve, StraightInLogarithmsConstantBelowProportionalBeyond) {
  Curve c;
  c.add(100, 1);
  c.add(10000, 10);
  EXPECT_DOUBLE_EQ(c.at(100), 1);
  EXPECT_NEAR(c.at(1000), 3.1622776601683795, 1e-12);  // half way in log x: half way in log y, sqrt(10)
  EXPECT_DOUBLE_EQ(c.at(10000), 10);
  EXPECT_DOUBLE_EQ(c.at(0), 1);
  EXPECT_DOUBLE_EQ(c.at(1), 1);
  EXPECT_DOUBLE_EQ(c.at(40000), 40);
}

TEST(Curve, OnePointAndRepeatedPoints) {
  Curve c;
  EXPECT_TRUE(c.empty());
  c.add(10, 2);
  EXPECT_DOUBLE_EQ(c.at(5), 2);
  EXPECT_DOUBLE_EQ(c.at(20), 4);
  c.add(10, 4);  // the mean of 2 and 4
  EXPECT_DOUBLE_EQ(c.at(10), 3);
}

TEST(SharingSlowdown, InterpolatesRanksAndBytes) {
  topologies::Measured m;
  m.cores = 2;
  m.sharing = {{1, "memory", 100, 1.0}, {2, "memory", 100, 1.1}, {2, "memory", 10000, 1.9},
               {4, "memory", 100, 2.1}, {1, "matmul", 100, 1.0}, {2, "matmul", 100, 1.2}};
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "memory", 50, 1), 1.0);
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "memory", 50, 2), 1.1);    // smaller than any sample: as the smallest
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "memory", 1000, 2), 1.5);  // half way in log bytes
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "memory", 1e9, 2), 1.9);
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "memory", 100, 3), 1.6);  // between 1.1 and 2.1
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "memory", 100, 8), 4.2);  // twice the ranks of the table
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "matmul", 100, 2), 1.2);
  m.sharing.clear();
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "matmul", 100, 2), 1.0);  // a core for each
  EXPECT_DOUBLE_EQ(sharing_slowdown(m, "matmul", 100, 5), 2.5);  // 5 ranks on 2 cores
}

}  // namespace
}  // namespace foretrain::sim
